// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {DeviceRegistry} from "./DeviceRegistry.sol";
import {IWindlass} from "./IWindlass.sol";

/// @notice Records runs for as long as they are as runs usually are, each for about 1,900 gas less than the compiler's
///         own code: a secp256k1 device, the next sequence, calldata as every encoder lays it out, a good signature of
///         64 bytes (EIP-2098).
/// @dev Stops at the first run that is anything else, with nothing of it done: `ReadingLog` reads that one in plain
///      Solidity and records it, skips it or reverts. So this function refuses nothing, and what it accepts, the other
///      accepts with the same event and the same slot. Why there is assembly at all: docs/decisions/0010.
///
///      Memory, from the free pointer on; one copy of a run serves its EIP-712 struct hash and then its event:
///
///        0     34      66           128     160  192  224  256       288     320    352    384    416           448     480
///        0x1901 domain  structHash | digest  v    r    s  | typehash  device  epoch  first  count  readingsHash  length  readings, 0s
///        `------ hashed, 66 -----'   `- precompile 1 --'   `---------------- hashed, 192 ---------------'
///                                                                             `--- data of the event, to the end ---'
///
///      The word of `readingsHash` becomes 0x80 in the event: where its bytes begin.
///
/// @param next Index of the run to begin with.
/// @param entries Where the devices' slots are.
/// @return Index of the first run that is left, or `runs.length`.
function recordUsualRuns(
    IWindlass.Run[] calldata runs,
    uint256 next,
    mapping(bytes32 device => DeviceRegistry.Entry entry) storage entries,
    bytes32 domain,
    bytes32 typehash,
    bytes32 selector
) returns (uint256) {
    assembly ("memory-safe") {
        let memory_ := mload(64)
        mstore(memory_, shl(240, 0x1901))
        mstore(add(memory_, 2), domain)
        mstore(add(memory_, 256), typehash)
        mstore(32, entries.slot)
        let place := add(runs.offset, shl(5, next))
        let end := add(runs.offset, shl(5, runs.length))
        // In the loop's head, so that the compiler keeps `run` instead of reading it anew wherever it is used.
        let run := add(runs.offset, calldataload(place))
        for {} lt(place, end) {
            place := add(place, 32)
            run := add(runs.offset, calldataload(place))
        } {
            let length := calldataload(add(run, 192))
            let signature := calldataload(add(run, 160))
            let size := sub(signature, 64)
            // Both byte strings where encoders put them, the second of 64 bytes, all within the calldata. With a run
            // and a length below 2^32 no sum wraps.
            if or(
                or(
                    or(shr(32, run), gt(sub(length, 1), 0xfffffffe)),
                    or(xor(calldataload(add(run, 128)), 192), xor(signature, add(and(add(length, 31), not(31)), 224)))
                ),
                or(xor(calldataload(add(run, signature)), 64), gt(add(add(run, signature), 96), calldatasize()))
            ) { break }
            signature := add(run, signature)

            mstore(0, calldataload(run))
            let at := keccak256(0, 64)
            let slot := sload(at)
            {
                let epoch := calldataload(add(run, 32))
                let previous := sub(calldataload(add(run, 64)), 1)
                let count := calldataload(add(run, 96))
                let last := add(previous, count)
                // All of the slot above the signer: not revoked, kind 1, this epoch, the sequence before this one. That
                // bounds `previous` by 2^96, so that the last does not wrap, and is not 2^256 - 1, as of a first of 0.
                if or(
                    or(xor(shr(160, slot), or(shl(80, 1), or(shl(48, epoch), previous))), iszero(count)),
                    or(shr(48, last), shr(32, or(epoch, count)))
                ) { break }
            }

            calldatacopy(add(memory_, 288), run, 128)
            calldatacopy(add(memory_, 448), add(run, 192), add(length, 32))
            {
                let body := add(memory_, 480)
                // The padding of the event is zero also where memory was used before.
                mstore(add(body, length), 0)
                mstore(add(memory_, 416), keccak256(body, length))
            }
            mstore(add(memory_, 34), keccak256(add(memory_, 256), 192))
            mstore(add(memory_, 128), keccak256(memory_, 66))
            {
                // The top bit of the second word is the parity, the rest is s.
                let vs := calldataload(add(signature, 64))
                mstore(add(memory_, 160), add(27, shr(255, vs)))
                mstore(add(memory_, 192), calldataload(add(signature, 32)))
                mstore(add(memory_, 224), shr(1, shl(1, vs)))
            }
            // A failed recovery answers no bytes, which leaves zero here, and no signer is zero. An s above half the
            // curve's order is refused, as by OpenZeppelin's ECDSA.
            mstore(0, 0)
            pop(staticcall(gas(), 1, add(memory_, 128), 128, 0, 32))
            if or(
                shl(96, xor(mload(0), slot)),
                gt(mload(add(memory_, 224)), 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0)
            ) { break }

            // The sequence stays within its 48 bits: `last` did.
            sstore(at, add(slot, shl(160, calldataload(add(run, 96)))))
            mstore(add(memory_, 416), 128)
            log2(add(memory_, 320), size, selector, calldataload(run))
        }
        next := shr(5, sub(place, runs.offset))
    }
    return next;
}
