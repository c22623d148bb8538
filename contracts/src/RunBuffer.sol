// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "./IWindlass.sol";

/// @notice A run in memory, laid out so that one copy serves both its EIP-712 struct hash and its `Recorded` event:
///
///         offset   0        32      64     96     128    160                         192     224
///                  typehash device  epoch  first  count  readingsHash, later 0x80    length  readings, then zeros
///                  `------------ hashed, 192 bytes ----------------'
///                                   `--------------------- data of the event, to the end --------------------'
/// @dev The only assembly of these contracts; why: docs/decisions/0010.
type RunBuffer is uint256;

using {structHash, emitRecorded} for RunBuffer global;

/// @dev Reads a run out of calldata with the checks that the compiler's decoder makes, in one condition: numbers have no
///      bits beyond their types, and both byte strings end within the calldata. Else it reverts without data.
function loadRun(IWindlass.Run calldata run)
    pure
    returns (
        bytes32 device,
        uint256 epoch,
        uint256 first,
        uint256 count,
        bytes calldata readings,
        bytes calldata signature
    )
{
    assembly ("memory-safe") {
        device := calldataload(run)
        epoch := calldataload(add(run, 32))
        first := calldataload(add(run, 64))
        count := calldataload(add(run, 96))
        let r := calldataload(add(run, 128))
        let s := calldataload(add(run, 160))
        readings.offset := add(add(run, r), 32)
        readings.length := calldataload(add(run, r))
        signature.offset := add(add(run, s), 32)
        signature.length := calldataload(add(run, s))
        // Offsets and lengths below 2^64 cannot wrap the sums that are compared.
        let outside :=
            or(
                gt(add(readings.offset, readings.length), calldatasize()),
                gt(add(signature.offset, signature.length), calldatasize())
            )
        let wide := shr(64, or(or(or(r, s), or(readings.length, signature.length)), first))
        if or(or(outside, wide), shr(32, or(epoch, count))) { revert(0, 0) }
    }
}

/// @dev Takes memory for a run and fills it. `emitRecorded` gives the memory back.
function openRun(bytes32 typehash, bytes32 device, uint256 epoch, uint256 first, uint256 count, bytes calldata readings)
    pure
    returns (RunBuffer buffer)
{
    assembly ("memory-safe") {
        buffer := mload(0x40)
        mstore(buffer, typehash)
        mstore(add(buffer, 32), device)
        mstore(add(buffer, 64), epoch)
        mstore(add(buffer, 96), first)
        mstore(add(buffer, 128), count)
        mstore(add(buffer, 192), readings.length)
        let body := add(buffer, 224)
        calldatacopy(body, readings.offset, readings.length)
        mstore(add(buffer, 160), keccak256(body, readings.length))
        // The padding of the event is zero also where memory was used before; calldata bounds the length.
        let end := add(body, readings.length)
        mstore(end, 0)
        mstore(0x40, and(add(end, 31), not(31)))
    }
}

/// @dev EIP-712 `hashStruct` of the run.
function structHash(RunBuffer buffer) pure returns (bytes32 hash) {
    assembly ("memory-safe") {
        hash := keccak256(buffer, 192)
    }
}

/// @dev Emits `Recorded(bytes32 indexed device, uint32, uint64, uint32, bytes)`; the buffer is spent.
function emitRecorded(RunBuffer buffer, bytes32 selector, bytes32 device, uint256 length) {
    assembly ("memory-safe") {
        // Fourth word of the data: where the bytes begin.
        mstore(add(buffer, 160), 128)
        log2(add(buffer, 64), and(add(length, 191), not(31)), selector, device)
        mstore(0x40, buffer)
    }
}
