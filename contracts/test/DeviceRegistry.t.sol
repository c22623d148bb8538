// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IWindlass} from "../src/IWindlass.sol";
import {Windlass} from "../src/Windlass.sol";
import {Fleet} from "./support/Fleet.sol";

contract DeviceRegistryTest is Fleet {
    function setUp() public {
        _deploy();
    }

    function test_constructor_makesTheOwnerRegistrarAndSubmitter() public {
        vm.expectEmit();
        emit IWindlass.RegistrarSet(OWNER, true);
        vm.expectEmit();
        emit IWindlass.SubmitterSet(OWNER, true);
        Windlass fresh = new Windlass(OWNER);
        vm.assertEq(fresh.owner(), OWNER);
        vm.assertTrue(fresh.isRegistrar(OWNER));
        vm.assertTrue(fresh.isSubmitter(OWNER));
    }

    function test_constructor_zeroOwner_revertsWithOwnableInvalidOwner() public {
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableInvalidOwner.selector, address(0)));
        new Windlass(address(0));
    }

    // -------------------------------------------------------------------------------------------- roles

    function test_setRegistrar_givesAndTakes_withAnEventForEachChange() public {
        vm.startPrank(OWNER);
        vm.expectEmit(address(windlass));
        emit IWindlass.RegistrarSet(STRANGER, true);
        windlass.setRegistrar(STRANGER, true);
        vm.assertTrue(windlass.isRegistrar(STRANGER));
        vm.assertFalse(windlass.isSubmitter(STRANGER));
        vm.expectEmit(address(windlass));
        emit IWindlass.RegistrarSet(STRANGER, false);
        windlass.setRegistrar(STRANGER, false);
        vm.assertFalse(windlass.isRegistrar(STRANGER));
        _assertSilent(abi.encodeCall(IWindlass.setRegistrar, (STRANGER, false)));
    }

    function test_setSubmitter_givesAndTakes_withAnEventForEachChange() public {
        vm.startPrank(OWNER);
        vm.expectEmit(address(windlass));
        emit IWindlass.SubmitterSet(STRANGER, true);
        windlass.setSubmitter(STRANGER, true);
        vm.assertTrue(windlass.isSubmitter(STRANGER));
        vm.assertFalse(windlass.isRegistrar(STRANGER));
        vm.expectEmit(address(windlass));
        emit IWindlass.SubmitterSet(STRANGER, false);
        windlass.setSubmitter(STRANGER, false);
        vm.assertFalse(windlass.isSubmitter(STRANGER));
        _assertSilent(abi.encodeCall(IWindlass.setSubmitter, (STRANGER, false)));
    }

    function test_setRegistrar_byAStranger_revertsWithOwnableUnauthorizedAccount() public {
        vm.startPrank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, STRANGER));
        windlass.setRegistrar(STRANGER, true);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, STRANGER));
        windlass.setSubmitter(STRANGER, true);
    }

    function test_transferOwnership_takesTwoSteps() public {
        vm.prank(OWNER);
        windlass.transferOwnership(STRANGER);
        vm.assertEq(windlass.owner(), OWNER);
        vm.prank(STRANGER);
        windlass.acceptOwnership();
        vm.assertEq(windlass.owner(), STRANGER);
    }

    function test_registry_byAStranger_revertsWithNotRegistrar() public {
        bytes memory refusal = abi.encodeWithSelector(IWindlass.NotRegistrar.selector, STRANGER);
        vm.startPrank(STRANGER);
        vm.expectRevert(refusal);
        windlass.register(new IWindlass.Registration[](0));
        IWindlass.Registration memory registration = _secp(DOCK, SECRET);
        vm.expectRevert(refusal);
        windlass.rotate(registration);
        vm.expectRevert(refusal);
        windlass.revoke(DOCK);
    }

    // ----------------------------------------------------------------------------------------- register

    function test_register_storesBothKindsOfKey() public {
        IWindlass.Registration[] memory both = new IWindlass.Registration[](2);
        both[0] = _secp(DOCK, SECRET);
        both[1] = _p256(GATE, SECRET);
        vm.expectEmit(address(windlass));
        emit IWindlass.Registered(DOCK, 1, IWindlass.KeyKind.Secp256k1, both[0].key);
        vm.expectEmit(address(windlass));
        emit IWindlass.Registered(GATE, 1, IWindlass.KeyKind.P256, both[1].key);
        vm.prank(OWNER);
        windlass.register(both);

        _assertDevice(DOCK, IWindlass.Device(IWindlass.KeyKind.Secp256k1, false, 1, 0, vm.addr(SECRET), 0, 0));
        (uint256 x, uint256 y) = vm.publicKeyP256(SECRET);
        _assertDevice(GATE, IWindlass.Device(IWindlass.KeyKind.P256, false, 1, 0, address(0), bytes32(x), bytes32(y)));
        _assertDevice(STRANGE, IWindlass.Device(IWindlass.KeyKind.None, false, 0, 0, address(0), 0, 0));
    }

    function test_register_again_changesNothing() public {
        IWindlass.Registration[] memory same = _list(_secp(DOCK, SECRET));
        vm.startPrank(OWNER);
        windlass.register(same);
        _assertSilent(abi.encodeCall(IWindlass.register, (same)));
        vm.assertEq(windlass.deviceOf(DOCK).epoch, 1);
    }

    function test_register_againAfterRevoke_staysRevoked() public {
        IWindlass.Registration[] memory same = _list(_secp(DOCK, SECRET));
        vm.startPrank(OWNER);
        windlass.register(same);
        windlass.revoke(DOCK);
        _assertSilent(abi.encodeCall(IWindlass.register, (same)));
        vm.assertTrue(windlass.deviceOf(DOCK).revoked);
    }

    function test_register_anotherKey_revertsWithDeviceExists_andRegistersNothing() public {
        _register(_secp(DOCK, SECRET));
        IWindlass.Registration[] memory both = new IWindlass.Registration[](2);
        both[0] = _secp(GATE, SECRET);
        both[1] = _secp(DOCK, OTHER_SECRET);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.DeviceExists.selector, DOCK));
        windlass.register(both);
        vm.assertEq(windlass.deviceOf(GATE).epoch, 0);
    }

    /// @dev The mirrored point is another valid key with the same x.
    function test_register_theMirroredP256Key_revertsWithDeviceExists() public {
        uint256 field = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF;
        _register(_p256(GATE, SECRET));
        (uint256 x, uint256 y) = vm.publicKeyP256(SECRET);
        bytes memory mirrored = abi.encodePacked(x, field - y);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.DeviceExists.selector, GATE));
        windlass.register(_list(IWindlass.Registration(GATE, IWindlass.KeyKind.P256, mirrored)));
    }

    function test_register_aKeyThatDoesNotFit_revertsWithInvalidKey() public {
        bytes memory offCurve = abi.encodePacked(uint256(1), uint256(1));
        _assertInvalid(IWindlass.KeyKind.None, "");
        _assertInvalid(IWindlass.KeyKind.Secp256k1, "");
        _assertInvalid(IWindlass.KeyKind.Secp256k1, new bytes(20));
        _assertInvalid(IWindlass.KeyKind.Secp256k1, abi.encodePacked(OWNER, uint8(0)));
        _assertInvalid(IWindlass.KeyKind.P256, abi.encodePacked(OWNER));
        _assertInvalid(IWindlass.KeyKind.P256, new bytes(64));
        _assertInvalid(IWindlass.KeyKind.P256, offCurve);
        _assertInvalid(IWindlass.KeyKind.P256, abi.encodePacked(_p256(DOCK, SECRET).key, uint8(0)));
    }

    // ----------------------------------------------------------------------------------- rotate, revoke

    function test_rotate_raisesTheEpoch_andKeepsTheSequence() public {
        _register(_secp(DOCK, SECRET));
        windlass.record(_list(_run(DOCK, 1, 5)));
        IWindlass.Registration memory next = _p256(DOCK, OTHER_SECRET);
        vm.startPrank(OWNER);
        vm.expectEmit(address(windlass));
        emit IWindlass.Registered(DOCK, 2, IWindlass.KeyKind.P256, next.key);
        windlass.rotate(next);

        (uint256 x, uint256 y) = vm.publicKeyP256(OTHER_SECRET);
        _assertDevice(DOCK, IWindlass.Device(IWindlass.KeyKind.P256, false, 2, 5, address(0), bytes32(x), bytes32(y)));
        _assertSilent(abi.encodeCall(IWindlass.rotate, (next)));
        windlass.rotate(_secp(DOCK, SECRET));
        _assertDevice(DOCK, IWindlass.Device(IWindlass.KeyKind.Secp256k1, false, 3, 5, vm.addr(SECRET), 0, 0));
    }

    function test_rotate_anUnknownDevice_revertsWithDeviceUnknown() public {
        IWindlass.Registration memory registration = _secp(STRANGE, SECRET);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.DeviceUnknown.selector, STRANGE));
        windlass.rotate(registration);
    }

    function test_rotate_aRevokedDevice_revertsWithDeviceRevoked() public {
        _register(_secp(DOCK, SECRET));
        IWindlass.Registration memory registration = _secp(DOCK, OTHER_SECRET);
        vm.startPrank(OWNER);
        windlass.revoke(DOCK);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.DeviceRevoked.selector, DOCK));
        windlass.rotate(registration);
    }

    function test_revoke_closesTheDevice_once() public {
        _register(_secp(DOCK, SECRET));
        windlass.record(_list(_run(DOCK, 1, 3)));
        vm.startPrank(OWNER);
        vm.expectEmit(address(windlass));
        emit IWindlass.Revoked(DOCK, 1, 3);
        windlass.revoke(DOCK);
        _assertDevice(DOCK, IWindlass.Device(IWindlass.KeyKind.Secp256k1, true, 1, 3, vm.addr(SECRET), 0, 0));
        _assertSilent(abi.encodeCall(IWindlass.revoke, (DOCK)));
    }

    function test_revoke_anUnknownDevice_revertsWithDeviceUnknown() public {
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.DeviceUnknown.selector, STRANGE));
        windlass.revoke(STRANGE);
    }

    // ------------------------------------------------------------------------------------------ helpers

    function _assertDevice(bytes32 device, IWindlass.Device memory expected) private view {
        vm.assertEq(abi.encode(windlass.deviceOf(device)), abi.encode(expected));
    }

    function _assertInvalid(IWindlass.KeyKind kind, bytes memory key) private {
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.InvalidKey.selector, DOCK));
        windlass.register(_list(IWindlass.Registration(DOCK, kind, key)));
    }

    function _assertSilent(bytes memory call) private {
        vm.recordLogs();
        (bool ok,) = address(windlass).call(call);
        vm.assertTrue(ok);
        vm.assertEq(vm.getRecordedLogs().length, 0);
    }
}
