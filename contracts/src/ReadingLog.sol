// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";

import {DeviceSlot} from "./DeviceSlot.sol";
import {DeviceRegistry} from "./DeviceRegistry.sol";
import {IWindlass} from "./IWindlass.sol";
import {recordUsualRuns} from "./UsualRuns.sol";

/// @title ReadingLog
/// @notice Readings in event logs, each device's in its own order and without a hole, by the device's signature.
/// @dev Holds no list and no role: all it keeps is the last sequence, in the device's registry slot. An outside call
///      goes to precompiles only, so a run cannot reach back in.
abstract contract ReadingLog is DeviceRegistry, EIP712 {
    bytes32 private constant READING_TYPEHASH =
        keccak256("Reading(bytes32 device,uint32 epoch,uint64 sequence,uint64 observedAt,bytes payload)");
    bytes32 private constant RUN_TYPEHASH =
        keccak256("Run(bytes32 device,uint32 epoch,uint64 firstSequence,uint32 count,bytes32 readingsHash)");

    /// @dev First byte of `Recorded.readings` for one reading, not compressed. Version 1 is made off chain.
    uint8 private constant PACKING_SINGLE = 2;

    /// @inheritdoc IWindlass
    function record(Run[] calldata runs) external {
        for (uint256 next = 0; next < runs.length; ++next) {
            next = recordUsualRuns(runs, next, _entries, _domainSeparatorV4(), RUN_TYPEHASH, Recorded.selector);
            if (next < runs.length) _recordRun(runs[next]);
        }
    }

    /// @inheritdoc IWindlass
    function recordSigned(SignedReading[] calldata readings) external {
        for (uint256 i = 0; i < readings.length; ++i) {
            _recordReading(readings[i]);
        }
    }

    /// @dev EIP-712 digest of a reading in this contract's domain; also what a Merkle leaf ends with.
    function _hashReading(bytes32 device, uint32 epoch, uint64 sequence, uint64 observedAt, bytes calldata payload)
        internal
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(
            keccak256(abi.encode(READING_TYPEHASH, device, epoch, sequence, observedAt, keccak256(payload)))
        );
    }

    /// @dev Any run, in plain Solidity; `recordUsualRuns` is the short way through it.
    function _recordRun(Run calldata run) private {
        (bytes32 device, uint32 epoch, uint64 first, uint32 count) =
            (run.device, run.epoch, run.firstSequence, run.count);
        bytes calldata readings = run.readings;
        Entry storage entry = _entries[device];
        DeviceSlot slot = entry.slot;
        if (!_continues(slot, epoch, first, count, readings.length)) {
            return _skip(device, epoch, first, count, _reasonFor(slot, epoch, first, count, readings.length));
        }
        bytes32 digest =
            _hashTypedDataV4(keccak256(abi.encode(RUN_TYPEHASH, device, epoch, first, count, keccak256(readings))));
        if (!_isSignedBy(slot, device, digest, run.signature)) {
            return _skip(device, epoch, first, count, SkipReason.BadSignature);
        }
        entry.slot = slot.withLastSequence(_lastOf(first, count));
        emit Recorded(device, epoch, first, count, readings);
    }

    function _recordReading(SignedReading calldata reading) private {
        (bytes32 device, uint32 epoch, uint64 sequence, uint64 observedAt) =
            (reading.device, reading.epoch, reading.sequence, reading.observedAt);
        bytes calldata payload = reading.payload;
        Entry storage entry = _entries[device];
        DeviceSlot slot = entry.slot;
        if (!_continues(slot, epoch, sequence, 1, payload.length)) {
            return _skip(device, epoch, sequence, 1, _reasonFor(slot, epoch, sequence, 1, payload.length));
        }
        bytes32 digest = _hashReading(device, epoch, sequence, observedAt, payload);
        if (!_isSignedBy(slot, device, digest, reading.signature)) {
            return _skip(device, epoch, sequence, 1, SkipReason.BadSignature);
        }
        entry.slot = slot.withLastSequence(sequence);
        emit Recorded(device, epoch, sequence, 1, abi.encodePacked(PACKING_SINGLE, observedAt, payload));
    }

    function _skip(bytes32 device, uint32 epoch, uint64 first, uint32 count, SkipReason reason) private {
        emit Skipped(device, epoch, first, count, reason);
    }

    function _isSignedBy(DeviceSlot slot, bytes32 device, bytes32 digest, bytes calldata signature)
        private
        view
        returns (bool)
    {
        if (slot.isP256()) {
            if (signature.length != 64) return false;
            Point storage point = _pointOf(device);
            return P256.verify(digest, bytes32(signature[:32]), bytes32(signature[32:]), point.x, point.y);
        }
        // The registry refuses a zero signer, and a failed recovery yields zero: no match.
        (uint8 v, bytes32 r, bytes32 s) = ECDSA.parseCalldata(signature);
        // slither-disable-next-line unused-return (error and argument: every failure yields the zero address)
        (address recovered,,) = ECDSA.tryRecover(digest, v, r, s);
        return recovered == slot.signer();
    }

    /// @dev Whether all but the signature is right: `_reasonFor` in the order that costs a good run least.
    function _continues(DeviceSlot slot, uint256 epoch, uint256 first, uint256 count, uint256 length)
        private
        pure
        returns (bool)
    {
        if (first == 0 || count == 0 || length == 0) return false;
        // Sequence, epoch, kind and revocation stand above the signer in this order: one comparison asks for them all.
        return slot.isAt(epoch, first - 1) && _lastOf(first, count) <= type(uint48).max;
    }

    /// @dev Why a claim that does not continue is skipped, in the order that `IWindlass.record` states.
    function _reasonFor(DeviceSlot slot, uint256 epoch, uint256 first, uint256 count, uint256 length)
        private
        pure
        returns (SkipReason)
    {
        if (slot.kind() == KeyKind.None) return SkipReason.UnknownDevice;
        if (length == 0 || count == 0 || first == 0) return SkipReason.Malformed;
        uint256 last = _lastOf(first, count);
        if (last > type(uint48).max) return SkipReason.Malformed;
        if (last <= slot.lastSequence()) return SkipReason.AlreadyRecorded;
        if (slot.isRevoked()) return SkipReason.Revoked;
        if (epoch != slot.epoch()) return SkipReason.WrongEpoch;
        return SkipReason.Gap;
    }

    /// @dev For numbers that are not 0, of 64 and 32 bits.
    function _lastOf(uint256 first, uint256 count) private pure returns (uint256) {
        unchecked {
            return first + count - 1;
        }
    }
}
