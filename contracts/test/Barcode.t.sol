// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Barcode} from "../src/Barcode.sol";
import {Vm} from "./support/Vm.sol";

contract BarcodeTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    address private constant DEVICE = address(0xD0C);

    Barcode private _barcode;

    function setUp() public {
        vm.warp(1_735_689_600);
        vm.prank(DEVICE);
        _barcode = new Barcode();
    }

    function test_constructor_makesTheDeployerOwner() public view {
        vm.assertEq(_barcode.owner(), DEVICE);
        vm.assertEq(_barcode.creationTime(), 1_735_689_600);
        vm.assertEq(_barcode.get(), 0);
    }

    function test_fuzz_set_isWhatGetReturns(uint256 first, uint256 second) public {
        vm.startPrank(DEVICE);
        _barcode.set(first);
        vm.assertEq(_barcode.get(), first);
        _barcode.set(second);
        vm.assertEq(_barcode.get(), second);
    }

    function test_fuzz_set_byAnotherAccount_revertsWithNotOwner(address caller, uint256 value) public {
        vm.assume(caller != DEVICE);
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(Barcode.NotOwner.selector, caller));
        _barcode.set(value);
        vm.assertEq(_barcode.get(), 0);
    }
}
