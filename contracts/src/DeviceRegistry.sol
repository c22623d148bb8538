// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";

import {DeviceSlot} from "./DeviceSlot.sol";
import {IWindlass} from "./IWindlass.sol";

/// @title DeviceRegistry
/// @notice Which key signs for which device, and who may say so.
abstract contract DeviceRegistry is IWindlass, Ownable2Step {
    /// @dev In a struct so that functions can pass the place on, and find it once.
    struct Entry {
        DeviceSlot slot;
    }

    /// @dev Point of a P256 key; zero for other kinds.
    struct Point {
        bytes32 x;
        bytes32 y;
    }

    uint256 private constant SECP256K1_KEY_BYTES = 20;
    uint256 private constant P256_KEY_BYTES = 64;

    mapping(bytes32 device => Entry entry) internal _entries;
    mapping(bytes32 device => Point point) private _points;
    mapping(address account => bool allowed) private _registrars;
    mapping(address account => bool allowed) private _submitters;

    modifier onlyRegistrar() {
        if (!_registrars[msg.sender]) revert NotRegistrar(msg.sender);
        _;
    }

    modifier onlySubmitter() {
        if (!_submitters[msg.sender]) revert NotSubmitter(msg.sender);
        _;
    }

    /// @inheritdoc IWindlass
    function setRegistrar(address account, bool allowed) external onlyOwner {
        _setRegistrar(account, allowed);
    }

    /// @inheritdoc IWindlass
    function setSubmitter(address account, bool allowed) external onlyOwner {
        _setSubmitter(account, allowed);
    }

    /// @inheritdoc IWindlass
    function register(Registration[] calldata registrations) external onlyRegistrar {
        for (uint256 i = 0; i < registrations.length; ++i) {
            Registration calldata registration = registrations[i];
            if (_entries[registration.device].slot.kind() == KeyKind.None) {
                _setKey(registration);
            } else if (!_holdsKey(registration)) {
                revert DeviceExists(registration.device);
            }
        }
    }

    /// @inheritdoc IWindlass
    function rotate(Registration calldata registration) external onlyRegistrar {
        if (_knownEntry(registration.device).slot.isRevoked()) revert DeviceRevoked(registration.device);
        if (!_holdsKey(registration)) _setKey(registration);
    }

    /// @inheritdoc IWindlass
    function revoke(bytes32 device) external onlyRegistrar {
        Entry storage entry = _knownEntry(device);
        DeviceSlot slot = entry.slot;
        if (slot.isRevoked()) return;
        entry.slot = slot.asRevoked();
        emit Revoked(device, slot.epoch(), uint64(slot.lastSequence()));
    }

    /// @inheritdoc IWindlass
    function deviceOf(bytes32 device) external view returns (Device memory) {
        DeviceSlot slot = _entries[device].slot;
        Point memory point = _points[device];
        return Device({
            kind: slot.kind(),
            revoked: slot.isRevoked(),
            epoch: slot.epoch(),
            lastSequence: uint64(slot.lastSequence()),
            signer: slot.signer(),
            x: point.x,
            y: point.y
        });
    }

    /// @inheritdoc IWindlass
    function isRegistrar(address account) external view returns (bool) {
        return _registrars[account];
    }

    /// @inheritdoc IWindlass
    function isSubmitter(address account) external view returns (bool) {
        return _submitters[account];
    }

    function _setRegistrar(address account, bool allowed) internal {
        if (_registrars[account] == allowed) return;
        _registrars[account] = allowed;
        emit RegistrarSet(account, allowed);
    }

    function _setSubmitter(address account, bool allowed) internal {
        if (_submitters[account] == allowed) return;
        _submitters[account] = allowed;
        emit SubmitterSet(account, allowed);
    }

    function _pointOf(bytes32 device) internal view returns (Point storage) {
        return _points[device];
    }

    function _knownEntry(bytes32 device) private view returns (Entry storage entry) {
        entry = _entries[device];
        if (entry.slot.kind() == KeyKind.None) revert DeviceUnknown(device);
    }

    function _setKey(Registration calldata registration) private {
        (address signer, Point memory point) = _parseKey(registration);
        Entry storage entry = _entries[registration.device];
        DeviceSlot slot = entry.slot;
        // Written too where a P256 key goes, so that nothing of it stays; else two slots are left untouched.
        if (registration.kind == KeyKind.P256 || slot.kind() == KeyKind.P256) _points[registration.device] = point;
        slot = slot.withKey(registration.kind, signer);
        entry.slot = slot;
        emit Registered(registration.device, slot.epoch(), registration.kind, registration.key);
    }

    function _holdsKey(Registration calldata registration) private view returns (bool) {
        DeviceSlot slot = _entries[registration.device].slot;
        if (slot.kind() != registration.kind) return false;
        (address signer, Point memory point) = _parseKey(registration);
        if (slot.kind() == KeyKind.Secp256k1) return slot.signer() == signer;
        Point memory held = _points[registration.device];
        return held.x == point.x && held.y == point.y;
    }

    function _parseKey(Registration calldata registration) private pure returns (address signer, Point memory point) {
        bytes calldata key = registration.key;
        if (registration.kind == KeyKind.Secp256k1 && key.length == SECP256K1_KEY_BYTES) {
            signer = address(bytes20(key));
            if (signer != address(0)) return (signer, point);
        } else if (registration.kind == KeyKind.P256 && key.length == P256_KEY_BYTES) {
            point = Point(bytes32(key[:32]), bytes32(key[32:]));
            if (P256.isValidPublicKey(point.x, point.y)) return (address(0), point);
        }
        revert InvalidKey(registration.device);
    }
}
