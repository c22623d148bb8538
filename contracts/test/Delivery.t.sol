// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "../src/IWindlass.sol";
import {Delivery} from "../src/examples/Delivery.sol";
import {Fleet} from "./support/Fleet.sol";

/// @notice A carrier that calls back while it is being paid, or refuses the payment.
contract Carrier {
    bool public refuses;
    bool public calledBack;
    bytes private _callback;

    function refuse(bool yes) external {
        refuses = yes;
    }

    function callBackWith(bytes calldata callback) external {
        _callback = callback;
    }

    receive() external payable {
        require(!refuses, "refused");
        if (_callback.length == 0) return;
        (bool ok,) = msg.sender.call(_callback);
        if (ok) calledBack = true;
    }
}

contract DeliveryTest is Fleet {
    uint64 private constant START = 1_735_689_600_000;
    uint64 private constant DEADLINE = START + 3_600_999;
    uint64 private constant GRACE = 600;
    uint256 private constant PRICE = 2 ether;
    bytes private constant CODE = "4006381333931";
    address payable private constant BUYER = payable(address(0xB0B));
    uint32 private constant LEAVES = 2;
    bytes32 private constant LEAF_TAG = keccak256("windlass.reading.v1");

    Carrier private _carrier;
    Delivery private _delivery;

    function setUp() public {
        _deploy();
        _register(_secp(DOCK, SECRET));
        _carrier = new Carrier();
        vm.deal(address(this), 10 ether);
        vm.warp(START / 1000);
        _delivery = new Delivery{value: PRICE}(_terms());
    }

    // ------------------------------------------------------------------------------------------ deliver

    function test_deliver_aProvedReading_paysTheCarrier() public {
        (bytes32 root, bytes32[] memory proof) = _pin(_handOver());
        vm.expectEmit(address(_delivery));
        emit Delivery.Paid(address(_carrier), PRICE, 7, START + 5);
        vm.prank(STRANGER);
        _delivery.deliver(root, _handOver(), proof);
        _assertPaid();
    }

    function test_deliver_twice_revertsWithNotOpen() public {
        (bytes32 root, bytes32[] memory proof) = _pin(_handOver());
        _delivery.deliver(root, _handOver(), proof);
        vm.expectRevert(abi.encodeWithSelector(Delivery.NotOpen.selector, Delivery.State.Paid));
        _delivery.deliver(root, _handOver(), proof);
        vm.warp(_delivery.refundableFrom());
        vm.expectRevert(abi.encodeWithSelector(Delivery.NotOpen.selector, Delivery.State.Paid));
        _delivery.refund();
    }

    function test_deliver_toACarrierThatCallsBack_paysOnce() public {
        (bytes32 root, bytes32[] memory proof) = _pin(_handOver());
        vm.deal(address(_delivery), 2 * PRICE);
        _carrier.callBackWith(abi.encodeCall(Delivery.deliver, (root, _handOver(), proof)));
        _delivery.deliver(root, _handOver(), proof);
        vm.assertFalse(_carrier.calledBack());
        vm.assertEq(address(_carrier).balance, PRICE);
    }

    function test_deliver_toACarrierThatRefuses_revertsWithPaymentRefused_andStaysOpen() public {
        (bytes32 root, bytes32[] memory proof) = _pin(_handOver());
        _carrier.refuse(true);
        _assertRefused(root, _handOver(), proof, abi.encodeWithSelector(Delivery.PaymentRefused.selector, _carrier));
        _carrier.refuse(false);
        _delivery.deliver(root, _handOver(), proof);
        _assertPaid();
    }

    function test_deliver_anotherDevice_revertsWithWrongScanner() public {
        _register(_secp(GATE, SECRET));
        IWindlass.Reading memory reading = _handOver();
        reading.device = GATE;
        _assertRefusedWhenPinned(reading, abi.encodeWithSelector(Delivery.WrongScanner.selector, GATE));
    }

    function test_deliver_anotherCode_revertsWithWrongCode() public {
        IWindlass.Reading memory reading = _handOver();
        reading.payload = "4006381333948";
        _assertRefusedWhenPinned(reading, abi.encodeWithSelector(Delivery.WrongCode.selector));
    }

    function test_fuzz_deliver_countsExactlyTheAgreedTime(uint64 observedAt, bool near) public {
        // Half of the runs within ten seconds of one of the ends.
        if (near) observedAt = (observedAt % 2 == 0 ? START : DEADLINE) + observedAt % 20_000 - 10_000;
        IWindlass.Reading memory reading = _handOver();
        reading.observedAt = observedAt;
        if (observedAt < START || observedAt > DEADLINE) {
            _assertRefusedWhenPinned(reading, abi.encodeWithSelector(Delivery.OutOfTime.selector, observedAt));
        } else {
            (bytes32 root, bytes32[] memory proof) = _pin(reading);
            _delivery.deliver(root, reading, proof);
            _assertPaid();
        }
    }

    function test_deliver_ofARevokedScanner_revertsWithScannerNotValid() public {
        (bytes32 root, bytes32[] memory proof) = _pin(_handOver());
        vm.prank(OWNER);
        windlass.revoke(DOCK);
        _assertRefused(
            root, _handOver(), proof, abi.encodeWithSelector(Delivery.ScannerNotValid.selector, DOCK, uint32(1))
        );
    }

    function test_deliver_ofAnUnknownScanner_revertsWithScannerNotValid() public {
        Delivery.Terms memory terms = _terms();
        terms.scanner = STRANGE;
        _delivery = new Delivery{value: PRICE}(terms);
        IWindlass.Reading memory reading = _handOver();
        reading.device = STRANGE;
        _assertRefusedWhenPinned(reading, abi.encodeWithSelector(Delivery.ScannerNotValid.selector, STRANGE, uint32(1)));
    }

    function test_deliver_ofAnEpochThatNeverWas_revertsWithScannerNotValid() public {
        IWindlass.Reading memory reading = _handOver();
        reading.epoch = 2;
        _assertRefusedWhenPinned(reading, abi.encodeWithSelector(Delivery.ScannerNotValid.selector, DOCK, uint32(2)));
        reading.epoch = 0;
        _assertRefusedWhenPinned(reading, abi.encodeWithSelector(Delivery.ScannerNotValid.selector, DOCK, uint32(0)));
    }

    function test_deliver_ofAnEarlierEpoch_pays() public {
        IWindlass.Registration memory next = _secp(DOCK, OTHER_SECRET);
        vm.prank(OWNER);
        windlass.rotate(next);
        (bytes32 root, bytes32[] memory proof) = _pin(_handOver());
        _delivery.deliver(root, _handOver(), proof);
        _assertPaid();
    }

    function test_deliver_underARootThatIsNotPinned_revertsWithRootNotPinned() public {
        (bytes32 root, bytes32[] memory proof) = _tree(_handOver());
        _assertRefused(root, _handOver(), proof, abi.encodeWithSelector(Delivery.RootNotPinned.selector, root));
    }

    function test_fuzz_deliver_aChangedProof_revertsWithNotProved(bytes32 step, uint64 sequence) public {
        (bytes32 root, bytes32[] memory proof) = _pin(_handOver());
        IWindlass.Reading memory changed = _handOver();
        if (sequence != changed.sequence) {
            changed.sequence = sequence;
            _assertRefused(root, changed, proof, abi.encodeWithSelector(Delivery.NotProved.selector));
        }
        if (step == proof[0]) return;
        proof[0] = step;
        _assertRefused(root, _handOver(), proof, abi.encodeWithSelector(Delivery.NotProved.selector));
        _assertRefused(root, _handOver(), new bytes32[](0), abi.encodeWithSelector(Delivery.NotProved.selector));
    }

    // ------------------------------------------------------------------------------------------- refund

    function test_fuzz_refund_isPossibleAfterDeadlineAndGrace(uint32 second) public {
        uint256 from = DEADLINE / 1000 + 1 + GRACE;
        uint256 time = START / 1000 + second % 10_000;
        vm.assertEq(_delivery.refundableFrom(), from);
        vm.warp(time);
        if (time < from) {
            vm.expectRevert(abi.encodeWithSelector(Delivery.TooEarly.selector, from));
            _delivery.refund();
            return;
        }
        vm.expectEmit(address(_delivery));
        emit Delivery.Refunded(BUYER, PRICE);
        vm.prank(STRANGER);
        _delivery.refund();
        vm.assertEq(BUYER.balance, PRICE);
        vm.assertEq(address(_delivery).balance, 0);
        vm.expectRevert(abi.encodeWithSelector(Delivery.NotOpen.selector, Delivery.State.Refunded));
        _delivery.refund();
    }

    function test_deliver_afterTheRefund_revertsWithNotOpen() public {
        (bytes32 root, bytes32[] memory proof) = _pin(_handOver());
        vm.warp(_delivery.refundableFrom());
        _delivery.refund();
        _assertRefused(
            root, _handOver(), proof, abi.encodeWithSelector(Delivery.NotOpen.selector, Delivery.State.Refunded)
        );
    }

    /// @dev In time by the reading's own time, proved late but before anyone asked for the refund.
    function test_deliver_aReadingPinnedWithinTheGrace_pays() public {
        vm.warp(_delivery.refundableFrom() - 1);
        (bytes32 root, bytes32[] memory proof) = _pin(_handOver());
        _delivery.deliver(root, _handOver(), proof);
        _assertPaid();
    }

    // ------------------------------------------------------------------------------------------ helpers

    function test_constructor_termsThatCannotWork_revertWithInvalidTerms() public {
        _assertInvalid(_terms(), 0);
        Delivery.Terms memory terms = _terms();
        terms.buyer = payable(address(0));
        _assertInvalid(terms, PRICE);
        terms = _terms();
        terms.carrier = payable(address(0));
        _assertInvalid(terms, PRICE);
        terms = _terms();
        terms.windlass = IWindlass(STRANGER);
        _assertInvalid(terms, PRICE);
        terms = _terms();
        terms.deadline = terms.notBefore;
        _assertInvalid(terms, PRICE);
    }

    function _assertInvalid(Delivery.Terms memory terms, uint256 price) private {
        vm.expectRevert(Delivery.InvalidTerms.selector);
        new Delivery{value: price}(terms);
    }

    function _assertPaid() private view {
        vm.assertEq(address(_carrier).balance, PRICE);
        vm.assertEq(address(_delivery).balance, 0);
        vm.assertEq(uint256(_delivery.state()), uint256(Delivery.State.Paid));
    }

    function _assertRefusedWhenPinned(IWindlass.Reading memory reading, bytes memory reason) private {
        (bytes32 root, bytes32[] memory proof) = _pin(reading);
        _assertRefused(root, reading, proof, reason);
    }

    function _assertRefused(bytes32 root, IWindlass.Reading memory reading, bytes32[] memory proof, bytes memory reason)
        private
    {
        uint256 before = address(_delivery).balance;
        vm.expectRevert(reason);
        _delivery.deliver(root, reading, proof);
        vm.assertEq(address(_delivery).balance, before);
    }

    function _terms() private view returns (Delivery.Terms memory) {
        return
            Delivery.Terms(windlass, BUYER, payable(address(_carrier)), DOCK, keccak256(CODE), START, DEADLINE, GRACE);
    }

    function _handOver() private pure returns (IWindlass.Reading memory) {
        return IWindlass.Reading(DOCK, 1, 7, START + 5, CODE);
    }

    function _pin(IWindlass.Reading memory reading) private returns (bytes32 root, bytes32[] memory proof) {
        (root, proof) = _tree(reading);
        vm.prank(OWNER);
        windlass.pinRoot(root, LEAVES);
    }

    /// @dev A tree of two leaves: the reading and another one.
    function _tree(IWindlass.Reading memory reading) private view returns (bytes32 root, bytes32[] memory proof) {
        bytes32 leaf = keccak256(
            abi.encode(
                keccak256(
                    abi.encode(
                        LEAF_TAG, reading.device, reading.epoch, reading.sequence, reading.observedAt, _digest(reading)
                    )
                )
            )
        );
        proof = new bytes32[](1);
        proof[0] = keccak256("another reading's leaf");
        root = leaf < proof[0] ? keccak256(abi.encode(leaf, proof[0])) : keccak256(abi.encode(proof[0], leaf));
    }
}
