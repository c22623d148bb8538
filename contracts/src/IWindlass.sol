// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// @title IWindlass
/// @notice Settles device readings: registry of device keys, log of signed readings, log of anchored Merkle roots.
/// @dev `device` is everywhere keccak256 of the UTF-8 device id. Sequences start at 1; epochs start at 1.
///      EIP-712 domain: name "Windlass", version "1", this chain and contract (readable through ERC-5267).
interface IWindlass {
    // ---------------------------------------------------------------------------------------------- types

    /// @notice How a device signs. `None`: the device is not registered.
    enum KeyKind {
        None,
        Secp256k1,
        P256
    }

    /// @notice Why a run was not recorded; the reasons are tried in the order that `record` states.
    enum SkipReason {
        UnknownDevice,
        Revoked,
        WrongEpoch,
        AlreadyRecorded,
        Gap,
        BadSignature,
        Malformed
    }

    /// @notice A device and its public key.
    /// @param key Secp256k1: the 20 bytes of the key's address. P256: the 64 bytes x || y.
    struct Registration {
        bytes32 device;
        KeyKind kind;
        bytes key;
    }

    /// @notice What the registry knows of a device.
    /// @param epoch Number of the key in force, raised by each rotation; 0 for an unknown device.
    /// @param lastSequence Last sequence recorded by `record` or `recordSigned`; 0 before the first.
    /// @param signer Address of a Secp256k1 key, else zero.
    /// @param x First coordinate of a P256 key, else zero.
    /// @param y Second coordinate of a P256 key, else zero.
    struct Device {
        KeyKind kind;
        bool revoked;
        uint32 epoch;
        uint64 lastSequence;
        address signer;
        bytes32 x;
        bytes32 y;
    }

    /// @notice Consecutive readings of one device under one signature.
    /// @param readings The packed readings: first byte the version of the packing, the rest opaque to the contract.
    /// @param signature Over the EIP-712 struct
    ///        `Run(bytes32 device,uint32 epoch,uint64 firstSequence,uint32 count,bytes32 readingsHash)` with
    ///        `readingsHash = keccak256(readings)`. Secp256k1: 64 bytes (EIP-2098) or 65 (r, s, v); P256: 64 (r, s).
    ///        A high `s` is refused for both.
    struct Run {
        bytes32 device;
        uint32 epoch;
        uint64 firstSequence;
        uint32 count;
        bytes readings;
        bytes signature;
    }

    /// @notice One reading under the device's own signature.
    /// @param observedAt Unix milliseconds.
    /// @param signature Over the EIP-712 struct
    ///        `Reading(bytes32 device,uint32 epoch,uint64 sequence,uint64 observedAt,bytes payload)`; forms as in `Run`.
    struct SignedReading {
        bytes32 device;
        uint32 epoch;
        uint64 sequence;
        uint64 observedAt;
        bytes payload;
        bytes signature;
    }

    /// @notice One reading, as a Merkle leaf holds it.
    /// @param observedAt Unix milliseconds.
    struct Reading {
        bytes32 device;
        uint32 epoch;
        uint64 sequence;
        uint64 observedAt;
        bytes payload;
    }

    /// @notice The sequences of one device in an anchored batch, both ends included.
    struct Range {
        bytes32 device;
        uint64 first;
        uint64 last;
    }

    // --------------------------------------------------------------------------------------------- events

    /// @notice `key` signs for `device` from now on. Epoch 1: registered; later epochs: rotated.
    event Registered(bytes32 indexed device, uint32 indexed epoch, KeyKind kind, bytes key);

    /// @notice `device` records nothing any more. `lastSequence` is the last one recorded.
    event Revoked(bytes32 indexed device, uint32 epoch, uint64 lastSequence);

    /// @notice `account` may (or may no longer) register, rotate and revoke devices.
    event RegistrarSet(address indexed account, bool allowed);

    /// @notice `account` may (or may no longer) anchor and pin roots.
    event SubmitterSet(address indexed account, bool allowed);

    /// @notice Readings `firstSequence` … `firstSequence + count - 1` of `device`, signed by its key of `epoch`.
    /// @param readings As given to `record`; from `recordSigned` packing version 2: one reading,
    ///        `abi.encodePacked(uint8(2), uint64 observedAt, bytes payload)`.
    event Recorded(bytes32 indexed device, uint32 epoch, uint64 firstSequence, uint32 count, bytes readings);

    /// @notice A run was not recorded. Anyone can cause this event for any device: it is an answer to the sender of
    ///         the transaction, and says nothing about the device.
    event Skipped(bytes32 indexed device, uint32 epoch, uint64 firstSequence, uint32 count, SkipReason reason);

    /// @notice A batch of `count` readings under `root` is the newest link of the submitter's chain.
    event Anchored(
        address indexed submitter,
        uint64 indexed batch,
        bytes32 indexed root,
        uint32 count,
        uint64 logSize,
        bytes32 logRoot,
        bytes32 head
    );

    /// @notice `root` over `count` leaves can be asked about through `verifyReading`.
    event Pinned(address indexed submitter, bytes32 indexed root, uint32 count);

    // --------------------------------------------------------------------------------------------- errors

    /// @notice The caller is not a registrar.
    error NotRegistrar(address caller);

    /// @notice The caller is not a submitter.
    error NotSubmitter(address caller);

    /// @notice The device is registered with another key; `rotate` changes a key.
    error DeviceExists(bytes32 device);

    /// @notice The device is not registered.
    error DeviceUnknown(bytes32 device);

    /// @notice The device was revoked, which is for ever.
    error DeviceRevoked(bytes32 device);

    /// @notice The key does not fit its kind: wrong length, zero address, or no point of the curve.
    error InvalidKey(bytes32 device);

    /// @notice Root 0 or count 0.
    error EmptyBatch();

    /// @notice The submitter's head is `head`: neither the given previous one nor the one that the call would make.
    error HeadMismatch(bytes32 head);

    /// @notice The range does not start at `expected`, the device's next sequence, or ends before it starts.
    error RangeGap(bytes32 device, uint64 expected);

    /// @notice The root is pinned already, with another count.
    error PinnedOtherwise(bytes32 root, uint32 count);

    // ----------------------------------------------------------------------------------------- the owner's

    /// @notice Gives or takes the right to register, rotate and revoke devices. Owner only.
    function setRegistrar(address account, bool allowed) external;

    /// @notice Gives or takes the right to anchor batches and pin roots. Owner only.
    function setSubmitter(address account, bool allowed) external;

    // ------------------------------------------------------------------------------------- the registrar's

    /// @notice Registers devices with their first keys, at epoch 1. Repeating a registration changes nothing and
    ///         emits nothing, also when the device was revoked since.
    /// @dev Reverts `DeviceExists` for a known device with another key in force, `InvalidKey` for a key that does
    ///      not fit its kind; then nothing of the list is registered.
    function register(Registration[] calldata registrations) external;

    /// @notice Replaces a device's key and raises its epoch; its sequence goes on. Repeating the key in force changes
    ///         nothing and emits nothing.
    /// @dev Reverts `DeviceUnknown`, `DeviceRevoked`, `InvalidKey`.
    function rotate(Registration calldata registration) external;

    /// @notice Ends a device for ever. Repeating it changes nothing and emits nothing.
    /// @dev Reverts `DeviceUnknown`.
    function revoke(bytes32 device) external;

    // ---------------------------------------------------------------------------------------- everybody's

    /// @notice Records runs of signed readings. The signature is the permission: anyone may call.
    /// @dev Each run is recorded or skipped on its own; the first reason that applies is told:
    ///      `UnknownDevice`   not registered;
    ///      `Malformed`       no readings, `count` 0, `firstSequence` 0, or an end past 2^48 - 1;
    ///      `AlreadyRecorded` its last sequence is not after the device's last one. The signature is not looked at,
    ///                        so this does not say that the same bytes were recorded;
    ///      `Revoked`         the device is revoked;
    ///      `WrongEpoch`      not the epoch of the key in force;
    ///      `Gap`             it does not start right after the device's last sequence: later, or earlier while it
    ///                        ends later (an overlap is not cut, because its signature covers the whole);
    ///      `BadSignature`    not by the key in force, or not in a form that `Run` names.
    function record(Run[] calldata runs) external;

    /// @notice Records readings that devices signed one by one; rules of `record`, each reading a run of one.
    ///         An empty payload is `Malformed`.
    function recordSigned(SignedReading[] calldata readings) external;

    // ------------------------------------------------------------------------------------- the submitter's

    /// @notice Adds a batch to the caller's chain of batches:
    ///         `head' = keccak256(abi.encode(previousHead, batch, root, count, logSize, logRoot, rangesHash))`.
    ///         If the caller's head is `head'` already, nothing happens and nothing is emitted: a repeat is harmless.
    /// @dev Reverts `EmptyBatch`, `HeadMismatch`, `RangeGap`. Batch numbers are the submitter's own and are bound by
    ///      the head, not checked.
    /// @param previousHead The caller's head before this batch; zero before the first.
    /// @param root Root of the OpenZeppelin StandardMerkleTree over the readings (leaf: see `verifyReading`).
    /// @param count Number of leaves.
    /// @param logSize Size of the append-only log after this batch, 0 while there is none.
    /// @param logRoot RFC 6962 root of that log, 0 while there is none.
    /// @param ranges Empty: `rangesHash` is 0. Otherwise `rangesHash = keccak256(abi.encode(ranges))`, and each range
    ///        must start right after the device's last anchored sequence, so that a missing number shows on chain.
    function anchor(
        bytes32 previousHead,
        uint64 batch,
        bytes32 root,
        uint32 count,
        uint64 logSize,
        bytes32 logRoot,
        Range[] calldata ranges
    ) external;

    /// @notice Stores a root, for contracts that want to ask `verifyReading`. Repeating it changes nothing.
    /// @dev Reverts `EmptyBatch`, `PinnedOtherwise`.
    function pinRoot(bytes32 root, uint32 count) external;

    // ---------------------------------------------------------------------------------------------- views

    /// @notice The device as registered; all zero when unknown.
    function deviceOf(bytes32 device) external view returns (Device memory);

    /// @notice Whether `account` may register, rotate and revoke devices.
    function isRegistrar(address account) external view returns (bool);

    /// @notice Whether `account` may anchor batches and pin roots.
    function isSubmitter(address account) external view returns (bool);

    /// @notice The newest head of a submitter's chain of batches; zero before the first.
    function headOf(address submitter) external view returns (bytes32);

    /// @notice Last sequence of the device that was anchored with ranges; zero before the first.
    function anchoredSequenceOf(bytes32 device) external view returns (uint64);

    /// @notice Number of leaves under a pinned root; zero when it is not pinned.
    function pinnedCountOf(bytes32 root) external view returns (uint32);

    /// @notice Whether `reading` is a leaf under a pinned root. False for a root that is not pinned, and for a proof
    ///         whose length no leaf of a tree of that many leaves can have.
    /// @dev Leaf: `keccak256(keccak256(abi.encode(keccak256("windlass.reading.v1"), device, epoch, sequence,
    ///      observedAt, digest)))` with `digest` the EIP-712 digest of the reading in this contract's domain.
    function verifyReading(bytes32 root, Reading calldata reading, bytes32[] calldata proof)
        external
        view
        returns (bool);
}
