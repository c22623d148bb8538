// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "../src/IWindlass.sol";
import {Fleet} from "./support/Fleet.sol";

contract AnchorLogTest is Fleet {
    bytes32 private constant ROOT = keccak256("a root");
    bytes32 private constant LEAF_TAG = keccak256("windlass.reading.v1");
    IWindlass.Range[] private _noRanges;

    function setUp() public {
        _deploy();
        vm.startPrank(OWNER);
    }

    // ------------------------------------------------------------------------------------------- anchor

    function test_anchor_chainsHeads() public {
        bytes32 first = _head(0, 1, 0);
        vm.expectEmit(address(windlass));
        emit IWindlass.Anchored(OWNER, 1, ROOT, 10, 20, "log", first);
        _anchor(0, 1);
        vm.assertEq(windlass.headOf(OWNER), first);

        bytes32 second = _head(first, 2, 0);
        vm.expectEmit(address(windlass));
        emit IWindlass.Anchored(OWNER, 2, ROOT, 10, 20, "log", second);
        _anchor(first, 2);
        vm.assertEq(windlass.headOf(OWNER), second);
    }

    function test_anchor_again_changesNothing() public {
        _anchor(0, 1);
        vm.recordLogs();
        _anchor(0, 1);
        vm.assertEq(vm.getRecordedLogs().length, 0);
        vm.assertEq(windlass.headOf(OWNER), _head(0, 1, 0));
    }

    function test_anchor_againWithRanges_changesNothing() public {
        IWindlass.Range[] memory ranges = _list(DOCK, 1, 5);
        windlass.anchor(0, 1, ROOT, 10, 20, "log", ranges);
        vm.recordLogs();
        windlass.anchor(0, 1, ROOT, 10, 20, "log", ranges);
        vm.assertEq(vm.getRecordedLogs().length, 0);
        vm.assertEq(windlass.anchoredSequenceOf(DOCK), 5);
    }

    function test_anchor_anotherPreviousHead_revertsWithHeadMismatch() public {
        vm.expectRevert(abi.encodeWithSelector(IWindlass.HeadMismatch.selector, bytes32(0)));
        _anchor(keccak256("not the head"), 1);
        _anchor(0, 1);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.HeadMismatch.selector, _head(0, 1, 0)));
        _anchor(0, 2);
    }

    function test_anchor_eachFieldIsInTheHead() public {
        _anchor(0, 1);
        bytes memory mismatch = abi.encodeWithSelector(IWindlass.HeadMismatch.selector, _head(0, 1, 0));
        vm.expectRevert(mismatch);
        windlass.anchor(0, 1, keccak256("another"), 10, 20, "log", _noRanges);
        vm.expectRevert(mismatch);
        windlass.anchor(0, 1, ROOT, 11, 20, "log", _noRanges);
        vm.expectRevert(mismatch);
        windlass.anchor(0, 1, ROOT, 10, 21, "log", _noRanges);
        vm.expectRevert(mismatch);
        windlass.anchor(0, 1, ROOT, 10, 20, "another", _noRanges);
        vm.expectRevert(mismatch);
        windlass.anchor(0, 1, ROOT, 10, 20, "log", _list(DOCK, 1, 1));
    }

    function test_anchor_submittersDoNotMeet() public {
        windlass.setSubmitter(STRANGER, true);
        _anchor(0, 1);
        vm.stopPrank();
        vm.prank(STRANGER);
        _anchor(0, 1);
        vm.assertEq(windlass.headOf(STRANGER), windlass.headOf(OWNER));
    }

    function test_anchor_nothing_revertsWithEmptyBatch() public {
        vm.expectRevert(IWindlass.EmptyBatch.selector);
        windlass.anchor(0, 1, 0, 10, 0, 0, _noRanges);
        vm.expectRevert(IWindlass.EmptyBatch.selector);
        windlass.anchor(0, 1, ROOT, 0, 0, 0, _noRanges);
    }

    function test_anchor_byAStranger_revertsWithNotSubmitter() public {
        vm.stopPrank();
        vm.startPrank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.NotSubmitter.selector, STRANGER));
        _anchor(0, 1);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.NotSubmitter.selector, STRANGER));
        windlass.pinRoot(ROOT, 1);
    }

    function test_anchor_ranges_continueEachDevice() public {
        IWindlass.Range[] memory ranges = new IWindlass.Range[](2);
        ranges[0] = IWindlass.Range(DOCK, 1, 7);
        ranges[1] = IWindlass.Range(GATE, 1, 3);
        bytes32 first = _head(0, 1, keccak256(abi.encode(ranges)));
        vm.expectEmit(address(windlass));
        emit IWindlass.Anchored(OWNER, 1, ROOT, 10, 20, "log", first);
        windlass.anchor(0, 1, ROOT, 10, 20, "log", ranges);
        windlass.anchor(first, 2, ROOT, 10, 20, "log", _list(DOCK, 8, 8));
        vm.assertEq(windlass.anchoredSequenceOf(DOCK), 8);
        vm.assertEq(windlass.anchoredSequenceOf(GATE), 3);
    }

    function test_anchor_aRangeThatDoesNotContinue_revertsWithRangeGap() public {
        _assertRangeGap(_list(DOCK, 2, 3), 1);
        _assertRangeGap(_list(DOCK, 0, 3), 1);
        _assertRangeGap(_list(DOCK, 1, 0), 1);
        windlass.anchor(0, 1, ROOT, 10, 20, "log", _list(DOCK, 1, 4));
        _assertRangeGap(_list(DOCK, 4, 6), 5);
        _assertRangeGap(_list(DOCK, 6, 6), 5);
        _assertRangeGap(_list(DOCK, 5, 4), 5);
        vm.assertEq(windlass.anchoredSequenceOf(DOCK), 4);
    }

    function test_fuzz_anchor_onlyTheHeadAdvances(bytes32 previousHead, uint64 batch) public {
        _anchor(0, 1);
        bytes32 head = windlass.headOf(OWNER);
        vm.assume(previousHead != head && (previousHead != 0 || batch != 1));
        vm.expectRevert(abi.encodeWithSelector(IWindlass.HeadMismatch.selector, head));
        _anchor(previousHead, batch);
    }

    function test_fuzz_anchor_rangesAreInTheHead_asAbiEncodeWritesThem(uint32[4] memory spans, uint8 length) public {
        IWindlass.Range[] memory ranges = new IWindlass.Range[](1 + length % 4);
        for (uint256 i = 0; i < ranges.length; ++i) {
            ranges[i] = IWindlass.Range(keccak256(abi.encode(i)), 1, 1 + uint64(spans[i]));
        }
        windlass.anchor(0, 1, ROOT, 10, 20, "log", ranges);
        vm.assertEq(windlass.headOf(OWNER), _head(0, 1, keccak256(abi.encode(ranges))));
    }

    function test_anchor_aRangeWiderThanItsType_reverts() public {
        bytes memory call = abi.encodeCall(IWindlass.anchor, (0, 1, ROOT, 10, 20, "log", _list(DOCK, 1, 4)));
        // The last two words are `first` and `last`; a bit above 64 in either.
        for (uint256 word = 1; word <= 2; ++word) {
            bytes memory wide = bytes.concat(call);
            wide[call.length - 32 * word + 23] = 0x01;
            (bool ok,) = address(windlass).call(wide);
            vm.assertFalse(ok);
        }
        vm.assertEq(windlass.headOf(OWNER), 0);
    }

    // ---------------------------------------------------------------------------- pinRoot, verifyReading

    function test_pinRoot_once() public {
        vm.expectEmit(address(windlass));
        emit IWindlass.Pinned(OWNER, ROOT, 5);
        windlass.pinRoot(ROOT, 5);
        vm.assertEq(windlass.pinnedCountOf(ROOT), 5);
        vm.recordLogs();
        windlass.pinRoot(ROOT, 5);
        vm.assertEq(vm.getRecordedLogs().length, 0);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.PinnedOtherwise.selector, ROOT, uint32(5)));
        windlass.pinRoot(ROOT, 6);
    }

    function test_pinRoot_nothing_revertsWithEmptyBatch() public {
        vm.expectRevert(IWindlass.EmptyBatch.selector);
        windlass.pinRoot(0, 1);
        vm.expectRevert(IWindlass.EmptyBatch.selector);
        windlass.pinRoot(ROOT, 0);
    }

    function test_verifyReading_aTreeOfTwo() public {
        IWindlass.Reading memory left = IWindlass.Reading(DOCK, 1, 1, 1000, "123");
        IWindlass.Reading memory right = IWindlass.Reading(DOCK, 1, 2, 1000, "123");
        bytes32 root = _node(_leaf(left), _leaf(right));
        windlass.pinRoot(root, 2);
        vm.assertTrue(windlass.verifyReading(root, left, _path(_leaf(right))));
        vm.assertTrue(windlass.verifyReading(root, right, _path(_leaf(left))));
        vm.assertFalse(windlass.verifyReading(root, left, _path(_leaf(left))));
        left.payload = "124";
        vm.assertFalse(windlass.verifyReading(root, left, _path(_leaf(right))));
    }

    function test_verifyReading_aRootThatIsNotPinned_isFalse() public view {
        IWindlass.Reading memory reading = IWindlass.Reading(DOCK, 1, 1, 1000, "123");
        vm.assertFalse(windlass.verifyReading(_leaf(reading), reading, new bytes32[](0)));
    }

    function test_verifyReading_aProofThatDoesNotFitTheCount_isFalse() public {
        IWindlass.Reading memory reading = IWindlass.Reading(DOCK, 1, 1, 1000, "123");
        bytes32 root = _leaf(reading);
        bytes32[] memory path = new bytes32[](4);
        for (uint256 i = 0; i < path.length; ++i) {
            path[i] = keccak256(abi.encode(i));
            root = _node(root, path[i]);
        }
        // Four steps: right for 9 to 31 leaves (3 or 4 steps for 9 … 15, 4 for 16, 4 or 5 for 17 … 31).
        windlass.pinRoot(root, 8);
        vm.assertFalse(windlass.verifyReading(root, reading, path));
    }

    function test_fuzz_verifyReading_takesTheLengthsThatTheCountAllows(uint32 count, uint8 length) public {
        length %= 12;
        count = 1 + count % (uint32(4) << length);
        IWindlass.Reading memory reading = IWindlass.Reading(DOCK, 1, 1, 1000, "123");
        bytes32 root = _leaf(reading);
        bytes32[] memory path = new bytes32[](length);
        for (uint256 i = 0; i < length; ++i) {
            path[i] = keccak256(abi.encode(i));
            root = _node(root, path[i]);
        }
        windlass.pinRoot(root, count);
        // 2^length leaves fill the tree whose every path has that length; one level more or less is partly filled.
        bool fits = count > (uint256(1) << length) / 2 && count < (uint256(2) << length);
        vm.assertEq(windlass.verifyReading(root, reading, path) ? 1 : 0, fits ? 1 : 0);
    }

    // ------------------------------------------------------------------------------------------ helpers

    function _anchor(bytes32 previousHead, uint64 batch) private {
        windlass.anchor(previousHead, batch, ROOT, 10, 20, "log", new IWindlass.Range[](0));
    }

    function _assertRangeGap(IWindlass.Range[] memory ranges, uint64 expected) private {
        bytes32 head = windlass.headOf(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IWindlass.RangeGap.selector, DOCK, expected));
        windlass.anchor(head, 9, ROOT, 10, 20, "log", ranges);
        vm.assertEq(windlass.headOf(OWNER), head);
    }

    function _leaf(IWindlass.Reading memory reading) private view returns (bytes32) {
        bytes memory leaf =
            abi.encode(LEAF_TAG, reading.device, reading.epoch, reading.sequence, reading.observedAt, _digest(reading));
        return keccak256(abi.encode(keccak256(leaf)));
    }

    function _head(bytes32 previousHead, uint64 batch, bytes32 rangesHash) private pure returns (bytes32) {
        return keccak256(abi.encode(previousHead, batch, ROOT, uint32(10), uint64(20), bytes32("log"), rangesHash));
    }

    function _list(bytes32 device, uint64 first, uint64 last) private pure returns (IWindlass.Range[] memory ranges) {
        ranges = new IWindlass.Range[](1);
        ranges[0] = IWindlass.Range(device, first, last);
    }

    function _path(bytes32 only) private pure returns (bytes32[] memory path) {
        path = new bytes32[](1);
        path[0] = only;
    }

    function _node(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return left < right ? keccak256(abi.encode(left, right)) : keccak256(abi.encode(right, left));
    }
}
