// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "./IWindlass.sol";

/// @notice All that a run of a Secp256k1 device reads and writes, in one word, lowest bits first:
///         signer (160 bits), last sequence (48), epoch (32), kind of key (8), revoked (8).
/// @dev A word of its own instead of a struct: one load and one store where the compiler makes one for each member.
///      48 bits of sequence last 8,900 years at 1,000 readings a second.
type DeviceSlot is uint256;

using {
    signer,
    lastSequence,
    epoch,
    kind,
    isRevoked,
    isP256,
    isAt,
    withKey,
    withLastSequence,
    asRevoked
} for DeviceSlot global;

uint256 constant SEQUENCE_SHIFT = 160;
uint256 constant EPOCH_SHIFT = 208;
uint256 constant KIND_SHIFT = 240;
uint256 constant REVOKED_SHIFT = 248;
// Above the signer: everything but the kind of key.
uint256 constant STATE_MASK = 0xff00ffffffffffffffffffff;
uint256 constant SEQUENCE_MASK = uint256(type(uint48).max) << SEQUENCE_SHIFT;

/// @dev Address of a Secp256k1 key, else zero.
function signer(DeviceSlot slot) pure returns (address) {
    return address(uint160(DeviceSlot.unwrap(slot)));
}

/// @dev Last sequence recorded, 0 before the first.
function lastSequence(DeviceSlot slot) pure returns (uint256) {
    return (DeviceSlot.unwrap(slot) & SEQUENCE_MASK) >> SEQUENCE_SHIFT;
}

/// @dev Number of the key in force, 0 for an unknown device.
function epoch(DeviceSlot slot) pure returns (uint32) {
    return uint32(DeviceSlot.unwrap(slot) >> EPOCH_SHIFT);
}

/// @dev `None` for an unknown device.
function kind(DeviceSlot slot) pure returns (IWindlass.KeyKind) {
    return IWindlass.KeyKind(uint8(DeviceSlot.unwrap(slot) >> KIND_SHIFT));
}

/// @dev Whether the device was ended.
function isRevoked(DeviceSlot slot) pure returns (bool) {
    return DeviceSlot.unwrap(slot) >> REVOKED_SHIFT != 0;
}

/// @dev Whether the key is a P256 one.
function isP256(DeviceSlot slot) pure returns (bool) {
    return uint8(DeviceSlot.unwrap(slot) >> KIND_SHIFT) == uint8(IWindlass.KeyKind.P256);
}

/// @dev Whether the device is known and not revoked, `epoch_` its epoch (from 1 on) and `last` its last sequence.
function isAt(DeviceSlot slot, uint256 epoch_, uint256 last) pure returns (bool) {
    // A known device is one whose epoch is not 0.
    uint256 state = DeviceSlot.unwrap(slot) >> SEQUENCE_SHIFT;
    return epoch_ != 0 && state & STATE_MASK == epoch_ << 48 | last && last >> 48 == 0;
}

/// @dev The next key: its epoch is one more, the sequence stays. For devices that are not revoked.
function withKey(DeviceSlot slot, IWindlass.KeyKind newKind, address newSigner) pure returns (DeviceSlot) {
    uint256 raised = uint256(epoch(slot) + 1) << EPOCH_SHIFT;
    uint256 kept = DeviceSlot.unwrap(slot) & SEQUENCE_MASK;
    return DeviceSlot.wrap(uint256(newKind) << KIND_SHIFT | raised | kept | uint160(newSigner));
}

/// @dev `sequence` is cut to 48 bits: the caller has bounded it.
function withLastSequence(DeviceSlot slot, uint256 sequence) pure returns (DeviceSlot) {
    uint256 kept = DeviceSlot.unwrap(slot) & ~SEQUENCE_MASK;
    return DeviceSlot.wrap(kept | uint256(uint48(sequence)) << SEQUENCE_SHIFT);
}

/// @dev Ended for ever: nothing takes the bit away.
function asRevoked(DeviceSlot slot) pure returns (DeviceSlot) {
    return DeviceSlot.wrap(DeviceSlot.unwrap(slot) | 1 << REVOKED_SHIFT);
}
