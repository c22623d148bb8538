//! Whether a chain verifies P-256 signatures by itself.

use alloy::primitives::{Address, B256, Bytes, address, b256};

/// EIP-7951 (and RIP-7212 before it): hash, r, s, x, y in; one word that is 1 out, or nothing.
pub(crate) const ADDRESS: Address = address!("0000000000000000000000000000000000000100");

/// SHA-256 of "windlass: is there a P-256 precompile?", its signature by a key made up for it, and that key. The precompile
/// answers nothing both for a wrong signature and where it is not, so it must be asked about a right one.
const QUESTION: [B256; 5] = [
    b256!("8fff03c7286457e904f91fd425bf23797dd7f6815b21e3ebd1fc1e005fa8284a"),
    b256!("8653fd9be2754c88fc451a90f9a4ce85812e6c5ae031004ce74bb0ceb3fe4f1d"),
    b256!("3f3918c76b730042342777bbb23d8d1ca849911ebc6f00192bf056c2109546c4"),
    b256!("7135fa4fd93a09dce98bbf681b4bfcf50e7c0d6354e62afb0bff2a3429617865"),
    b256!("ed4c1f02ddb9023ee56a557e515d6a9dc66c11f220960de594334df588776724"),
];

/// The calldata that a precompile says yes to.
pub(crate) fn question() -> Bytes {
    QUESTION.concat().into()
}

/// Whether the answer is a yes.
pub(crate) fn is_there(answer: &[u8]) -> bool {
    answer == B256::with_last_byte(1)
}

/// The key that the question is signed with.
#[cfg(test)]
pub(crate) fn public_key() -> windlass_reading::PublicKey {
    windlass_reading::PublicKey::from_bytes(&QUESTION[3..].concat()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_a_right_signature() {
        let signature = QUESTION[1..3].concat();
        assert!(public_key().signed(QUESTION[0], &signature));
    }

    #[test]
    fn only_a_one_is_a_yes() {
        assert!(is_there(B256::with_last_byte(1).as_slice()));
        assert!(!is_there(&[]) && !is_there(B256::ZERO.as_slice()) && !is_there(&[1]));
    }
}
