// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "../../src/IWindlass.sol";
import {Windlass} from "../../src/Windlass.sol";
import {Vm} from "./Vm.sol";

/// @notice A deployed Windlass and devices that sign for it. Digests are written anew here, so that a mistake in the
///         contract's own hashing is not repeated by its tests.
abstract contract Fleet {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    address internal constant OWNER = address(0xA11CE);
    address internal constant STRANGER = address(0xBAD);
    uint256 internal constant SECRET = uint256(keccak256("a device's secret"));
    uint256 internal constant OTHER_SECRET = uint256(keccak256("another device's secret"));
    bytes32 internal constant DOCK = keccak256("dock-7");
    bytes32 internal constant GATE = keccak256("gate-2");
    bytes32 internal constant STRANGE = keccak256("nobody-knows-me");

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant READING_TYPEHASH =
        keccak256("Reading(bytes32 device,uint32 epoch,uint64 sequence,uint64 observedAt,bytes payload)");
    bytes32 private constant RUN_TYPEHASH =
        keccak256("Run(bytes32 device,uint32 epoch,uint64 firstSequence,uint32 count,bytes32 readingsHash)");

    Windlass internal windlass;

    /// @dev Osaka has the P-256 precompile.
    function _deploy() internal {
        vm.setEvmVersion("osaka");
        windlass = new Windlass(OWNER);
    }

    // ------------------------------------------------------------------------------------ registrations

    function _secp(bytes32 device, uint256 secret) internal pure returns (IWindlass.Registration memory) {
        return IWindlass.Registration(device, IWindlass.KeyKind.Secp256k1, abi.encodePacked(vm.addr(secret)));
    }

    function _p256(bytes32 device, uint256 secret) internal pure returns (IWindlass.Registration memory) {
        (uint256 x, uint256 y) = vm.publicKeyP256(secret);
        return IWindlass.Registration(device, IWindlass.KeyKind.P256, abi.encodePacked(x, y));
    }

    function _register(IWindlass.Registration memory registration) internal {
        vm.prank(OWNER);
        windlass.register(_list(registration));
    }

    function _list(IWindlass.Registration memory only)
        internal
        pure
        returns (IWindlass.Registration[] memory registrations)
    {
        registrations = new IWindlass.Registration[](1);
        registrations[0] = only;
    }

    // --------------------------------------------------------------------------------- runs and readings

    function _run(bytes32 device, uint64 first, uint32 count) internal view returns (IWindlass.Run memory run) {
        run = IWindlass.Run(device, 1, first, count, _packed(first, count), "");
        run.signature = _compact(SECRET, _digest(run));
    }

    function _list(IWindlass.Run memory only) internal pure returns (IWindlass.Run[] memory runs) {
        runs = new IWindlass.Run[](1);
        runs[0] = only;
    }

    function _reading(bytes32 device, uint64 sequence) internal view returns (IWindlass.SignedReading memory reading) {
        reading = IWindlass.SignedReading(device, 1, sequence, 1_735_689_600_000 + sequence, "4006381333931", "");
        reading.signature = _compact(SECRET, _digest(reading));
    }

    function _list(IWindlass.SignedReading memory only)
        internal
        pure
        returns (IWindlass.SignedReading[] memory readings)
    {
        readings = new IWindlass.SignedReading[](1);
        readings[0] = only;
    }

    /// @dev Bytes that stand for packed readings, and differ from run to run.
    function _packed(uint64 first, uint32 count) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(1), keccak256(abi.encode(first, count)));
    }

    function _lastOf(bytes32 device) internal view returns (uint64) {
        return windlass.deviceOf(device).lastSequence;
    }

    // -------------------------------------------------------------------------------- digests, signatures

    function _digest(IWindlass.Run memory run) internal view returns (bytes32) {
        return _inDomain(
            keccak256(
                abi.encode(RUN_TYPEHASH, run.device, run.epoch, run.firstSequence, run.count, keccak256(run.readings))
            )
        );
    }

    function _digest(IWindlass.SignedReading memory reading) internal view returns (bytes32) {
        return _digest(
            IWindlass.Reading(reading.device, reading.epoch, reading.sequence, reading.observedAt, reading.payload)
        );
    }

    function _digest(IWindlass.Reading memory reading) internal view returns (bytes32) {
        return _inDomain(
            keccak256(
                abi.encode(
                    READING_TYPEHASH,
                    reading.device,
                    reading.epoch,
                    reading.sequence,
                    reading.observedAt,
                    keccak256(reading.payload)
                )
            )
        );
    }

    function _domainSeparator() internal view returns (bytes32) {
        return
            keccak256(
                abi.encode(DOMAIN_TYPEHASH, keccak256("Windlass"), keccak256("1"), block.chainid, address(windlass))
            );
    }

    function _compact(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (bytes32 r, bytes32 vs) = vm.signCompact(secret, digest);
        return abi.encodePacked(r, vs);
    }

    function _signP256(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (bytes32 r, bytes32 s) = vm.signP256(secret, digest);
        uint256 order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551;
        return abi.encodePacked(r, uint256(s) > order / 2 ? bytes32(order - uint256(s)) : s);
    }

    function _inDomain(bytes32 structHash) private view returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", _domainSeparator(), structHash));
    }

    // ------------------------------------------------------------------------------------- expectations

    function _expectRecorded(IWindlass.Run memory run) internal {
        vm.expectEmit(address(windlass));
        emit IWindlass.Recorded(run.device, run.epoch, run.firstSequence, run.count, run.readings);
    }

    function _expectSkipped(IWindlass.Run memory run, IWindlass.SkipReason reason) internal {
        vm.expectEmit(address(windlass));
        emit IWindlass.Skipped(run.device, run.epoch, run.firstSequence, run.count, reason);
    }

    function _assertSkipped(IWindlass.Run memory run, IWindlass.SkipReason reason) internal {
        uint64 before = _lastOf(run.device);
        _expectSkipped(run, reason);
        windlass.record(_list(run));
        vm.assertEq(_lastOf(run.device), before);
    }

    function _assertSkipped(IWindlass.SignedReading memory reading, IWindlass.SkipReason reason) internal {
        uint64 before = _lastOf(reading.device);
        vm.expectEmit(address(windlass));
        emit IWindlass.Skipped(reading.device, reading.epoch, reading.sequence, 1, reason);
        windlass.recordSigned(_list(reading));
        vm.assertEq(_lastOf(reading.device), before);
    }
}
