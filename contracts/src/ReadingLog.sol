// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";

import {DeviceRegistry} from "./DeviceRegistry.sol";
import {IWindlass} from "./IWindlass.sol";

/// @title ReadingLog
/// @notice Readings in event logs, each device's in its own order and without a hole, by the device's signature.
/// @dev Holds no list and no role: all it keeps is the last sequence, in the device's registry slot. An outside call
///      goes to precompiles only, so a run cannot reach back in.
abstract contract ReadingLog is DeviceRegistry, EIP712 {
    /// @dev The part that `record` and `recordSigned` have in common.
    struct Claim {
        bytes32 device;
        uint32 epoch;
        uint64 firstSequence;
        uint32 count;
    }

    bytes32 private constant READING_TYPEHASH =
        keccak256("Reading(bytes32 device,uint32 epoch,uint64 sequence,uint64 observedAt,bytes payload)");
    bytes32 private constant RUN_TYPEHASH =
        keccak256("Run(bytes32 device,uint32 epoch,uint64 firstSequence,uint32 count,bytes32 readingsHash)");

    /// @dev First byte of `Recorded.readings` for one reading, not compressed. Version 1 is made off chain.
    uint8 private constant PACKING_SINGLE = 2;

    /// @inheritdoc IWindlass
    function record(Run[] calldata runs) external {
        for (uint256 i = 0; i < runs.length; ++i) {
            _recordRun(runs[i]);
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

    function _recordRun(Run calldata run) private {
        Claim memory claim = Claim(run.device, run.epoch, run.firstSequence, run.count);
        bytes calldata readings = run.readings;
        Entry memory entry = _entryOf(claim.device);
        (bool inOrder, SkipReason reason) = _check(entry, claim, readings.length);
        if (!inOrder) return _skip(claim, reason);

        bytes32 digest = _hashRun(claim, keccak256(readings));
        if (!_isSignedBy(entry, claim.device, digest, run.signature)) return _skip(claim, SkipReason.BadSignature);
        _advance(claim);
        emit Recorded(claim.device, claim.epoch, claim.firstSequence, claim.count, readings);
    }

    function _recordReading(SignedReading calldata reading) private {
        Claim memory claim = Claim(reading.device, reading.epoch, reading.sequence, 1);
        bytes calldata payload = reading.payload;
        Entry memory entry = _entryOf(claim.device);
        (bool inOrder, SkipReason reason) = _check(entry, claim, payload.length);
        if (!inOrder) return _skip(claim, reason);

        bytes32 digest = _hashReading(claim.device, claim.epoch, claim.firstSequence, reading.observedAt, payload);
        if (!_isSignedBy(entry, claim.device, digest, reading.signature)) {
            return _skip(claim, SkipReason.BadSignature);
        }
        _advance(claim);
        bytes memory packed = abi.encodePacked(PACKING_SINGLE, reading.observedAt, payload);
        emit Recorded(claim.device, claim.epoch, claim.firstSequence, 1, packed);
    }

    function _advance(Claim memory claim) private {
        // `_check` has bounded the sum by 48 bits.
        _entryOf(claim.device).lastSequence = uint48(_lastOf(claim));
    }

    function _skip(Claim memory claim, SkipReason reason) private {
        emit Skipped(claim.device, claim.epoch, claim.firstSequence, claim.count, reason);
    }

    function _isSignedBy(Entry memory entry, bytes32 device, bytes32 digest, bytes calldata signature)
        private
        view
        returns (bool)
    {
        if (entry.kind == KeyKind.P256) {
            if (signature.length != 64) return false;
            Point memory point = _pointOf(device);
            return P256.verify(digest, bytes32(signature[:32]), bytes32(signature[32:]), point.x, point.y);
        }
        // The registry refuses a zero signer, and a failed recovery yields zero: no match.
        return _recover(digest, signature) == entry.signer;
    }

    function _hashRun(Claim memory claim, bytes32 readingsHash) private view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(RUN_TYPEHASH, claim.device, claim.epoch, claim.firstSequence, claim.count, readingsHash)
            )
        );
    }

    /// @dev All but the signature, in the order that `IWindlass.record` states. `reason` counts only if not `inOrder`.
    function _check(Entry memory entry, Claim memory claim, uint256 length)
        private
        pure
        returns (bool inOrder, SkipReason reason)
    {
        if (entry.kind == KeyKind.None) return (false, SkipReason.UnknownDevice);
        if (length == 0 || claim.count == 0 || claim.firstSequence == 0 || _lastOf(claim) > type(uint48).max) {
            return (false, SkipReason.Malformed);
        }
        if (_lastOf(claim) <= entry.lastSequence) return (false, SkipReason.AlreadyRecorded);
        if (entry.revoked) return (false, SkipReason.Revoked);
        if (claim.epoch != entry.epoch) return (false, SkipReason.WrongEpoch);
        if (claim.firstSequence != uint256(entry.lastSequence) + 1) return (false, SkipReason.Gap);
        return (true, reason);
    }

    function _recover(bytes32 digest, bytes calldata signature) private pure returns (address signer) {
        if (signature.length == 64) {
            (signer,,) = ECDSA.tryRecover(digest, bytes32(signature[:32]), bytes32(signature[32:]));
        } else {
            (signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        }
    }

    /// @dev For claims whose numbers are not 0: a claim of two zeros would underflow, and so stop its neighbours.
    function _lastOf(Claim memory claim) private pure returns (uint256) {
        return uint256(claim.firstSequence) + claim.count - 1;
    }
}
