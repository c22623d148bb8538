//! What a revert says, in words for a log line or an operator.

use alloy::{
    primitives::hex,
    sol_types::{ContractError, SolInterface},
};

use crate::{Barcode::BarcodeErrors, Windlass::WindlassErrors};

/// How much of an unknown revert is repeated; what a foreign contract returns may be long.
const SHOWN_BYTES: usize = 64;

/// The reason in `data`, the bytes that a reverted call returned.
///
/// Our contracts' errors are shown with their values, `Error(string)` and `Panic(uint256)` as their text;
/// anything else as hex.
pub fn revert_reason(data: &[u8]) -> String {
    if data.is_empty() {
        return "no reason given".to_owned();
    }
    if let Ok(error) = ContractError::<WindlassErrors>::abi_decode(data) {
        return described(&error);
    }
    if let Ok(error) = ContractError::<BarcodeErrors>::abi_decode(data) {
        return described(&error);
    }
    let shown = data.get(..SHOWN_BYTES).unwrap_or(data);
    let more = if shown.len() < data.len() { "…" } else { "" };
    format!("unknown error {}{more}", hex::encode_prefixed(shown))
}

fn described<E: std::fmt::Debug>(error: &ContractError<E>) -> String {
    match error {
        ContractError::CustomError(error) => unwrapped(&format!("{error:?}")),
        ContractError::Panic(panic) => panic.to_string(),
        ContractError::Revert(revert) => revert.reason.chars().take(4 * SHOWN_BYTES).collect(),
    }
}

/// `HeadMismatch(HeadMismatch { head: 0x… })`, as the generated enum prints itself, without the repeated name.
fn unwrapped(debug: &str) -> String {
    let inner = debug.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(debug).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::{
        primitives::{Address, B256, U256},
        sol_types::{Panic, PanicKind, Revert, SolError},
    };

    use crate::{Barcode, Windlass};

    #[test]
    fn each_kind_of_revert_is_told_in_words() {
        let head = B256::repeat_byte(7);
        let caller = Address::repeat_byte(9);
        let table = [
            (Windlass::HeadMismatch { head }.abi_encode(), format!("HeadMismatch {{ head: {head} }}")),
            (Windlass::EmptyBatch {}.abi_encode(), "EmptyBatch".to_owned()),
            (Windlass::NotSubmitter { caller }.abi_encode(), format!("NotSubmitter {{ caller: {caller} }}")),
            (Barcode::NotOwner { caller }.abi_encode(), format!("NotOwner {{ caller: {caller} }}")),
            (Revert::from("out of paper").abi_encode(), "out of paper".to_owned()),
            (Panic::from(PanicKind::UnderOverflow).abi_encode(), Panic::from(PanicKind::UnderOverflow).to_string()),
            (Vec::new(), "no reason given".to_owned()),
            (vec![1, 2, 3], "unknown error 0x010203".to_owned()),
        ];
        for (data, reason) in table {
            assert_eq!(revert_reason(&data), reason);
        }
        assert!(revert_reason(&U256::MAX.to_be_bytes::<32>().repeat(9)).ends_with('…'));
    }

    #[test]
    fn a_truncated_error_is_unknown_and_does_not_panic() {
        let data = Windlass::HeadMismatch { head: B256::repeat_byte(7) }.abi_encode();
        for end in 1..data.len() {
            assert!(revert_reason(&data[..end]).starts_with("unknown error"));
        }
    }
}
