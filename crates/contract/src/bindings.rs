//! Types generated from the artifacts. Their documentation is the NatSpec of `contracts/src`.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]

use alloy::sol;

sol! {
    #![sol(all_derives)]
    Windlass,
    "../../contracts/artifacts/Windlass.json"
}

sol! {
    #![sol(all_derives)]
    Barcode,
    "../../contracts/artifacts/Barcode.json"
}

#[cfg(test)]
mod tests {
    use alloy::{
        primitives::{B256, Bytes, U256, hex},
        sol_types::{SolCall, SolEvent},
    };

    use super::*;

    #[test]
    fn the_pinned_signatures_have_not_moved() {
        let table = [
            (Windlass::recordCall::SIGNATURE, "record((bytes32,uint32,uint64,uint32,bytes,bytes)[])"),
            (Windlass::recordSignedCall::SIGNATURE, "recordSigned((bytes32,uint32,uint64,uint64,bytes,bytes)[])"),
            (
                Windlass::anchorCall::SIGNATURE,
                "anchor(bytes32,uint64,bytes32,uint32,uint64,bytes32,(bytes32,uint64,uint64)[])",
            ),
            (Windlass::registerCall::SIGNATURE, "register((bytes32,uint8,bytes)[])"),
            (Windlass::rotateCall::SIGNATURE, "rotate((bytes32,uint8,bytes))"),
            (Windlass::Recorded::SIGNATURE, "Recorded(bytes32,uint32,uint64,uint32,bytes)"),
            (Windlass::Skipped::SIGNATURE, "Skipped(bytes32,uint32,uint64,uint32,uint8)"),
            (Windlass::Anchored::SIGNATURE, "Anchored(address,uint64,bytes32,uint32,uint64,bytes32,bytes32)"),
            (Barcode::setCall::SIGNATURE, "set(uint256)"),
            (Barcode::getCall::SIGNATURE, "get()"),
        ];
        for (generated, pinned) in table {
            assert_eq!(generated, pinned);
        }
    }

    #[test]
    fn calldata_and_events_come_back() {
        let run = IWindlass::Run {
            device: B256::repeat_byte(1),
            epoch: 2,
            firstSequence: 3,
            count: 4,
            readings: Bytes::from_static(b"readings"),
            signature: Bytes::from_static(&[7; 64]),
        };
        let call = Windlass::recordCall { runs: vec![run] };
        assert_eq!(Windlass::recordCall::abi_decode(&call.abi_encode()), Ok(call));
        let event = Windlass::Anchored {
            submitter: alloy::primitives::Address::repeat_byte(5),
            batch: 6,
            root: B256::repeat_byte(7),
            count: 8,
            logSize: 0,
            logRoot: B256::ZERO,
            head: B256::repeat_byte(9),
        };
        assert_eq!(Windlass::Anchored::decode_log_data(&event.encode_log_data()), Ok(event));
        let set = Barcode::setCall { value: U256::from(5_446_078) }.abi_encode();
        assert_eq!(hex::encode(&set[..4]), "60fe47b1");
    }
}
