// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "./IWindlass.sol";

/// @dev `keccak256(abi.encode(ranges))`, copied from calldata at once instead of member by member: a range is three
///      static words, so the array lies in calldata as `abi.encode` would write it. Bits that do not belong to a
///      member are hashed here and refused where the members are read. Why assembly: docs/decisions/0010.
function hashRanges(IWindlass.Range[] calldata ranges) pure returns (bytes32 hash) {
    assembly ("memory-safe") {
        let free := mload(0x40)
        mstore(free, 32)
        mstore(add(free, 32), ranges.length)
        let size := mul(ranges.length, 96)
        calldatacopy(add(free, 64), ranges.offset, size)
        hash := keccak256(free, add(size, 64))
    }
}
