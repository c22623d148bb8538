// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "../src/IWindlass.sol";
import {Crew} from "./support/Crew.sol";
import {Fleet} from "./support/Fleet.sol";

/// @notice Whatever is done in whatever order, the contract's state is what its events told.
contract InvariantsTest is Fleet {
    Crew private _crew;

    function setUp() public {
        _deploy();
        vm.prank(OWNER);
        windlass.setSubmitter(STRANGER, true);
        _crew = new Crew(windlass);
    }

    /// @dev Read by forge: all calls go to the crew.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_crew);
    }

    function invariant_noEventBreaksARule() public view {
        vm.assertEq(bytes(_crew.broken()), "");
    }

    function invariant_sequencesAreThoseOfTheEvents() public view {
        for (uint256 i = 0; i < _crew.DEVICES(); ++i) {
            bytes32 device = _crew.deviceAt(i);
            IWindlass.Device memory stored = windlass.deviceOf(device);
            Crew.Book memory book = _crew.bookOf(device);
            vm.assertEq(stored.lastSequence, book.lastSequence);
            vm.assertEq(stored.epoch, book.epoch);
            vm.assertEq(windlass.anchoredSequenceOf(device), book.anchored);
        }
    }

    function invariant_aRevokedDeviceNeverRecords() public view {
        for (uint256 i = 0; i < _crew.DEVICES(); ++i) {
            Crew.Book memory book = _crew.bookOf(_crew.deviceAt(i));
            vm.assertEq(windlass.deviceOf(_crew.deviceAt(i)).revoked ? 1 : 0, book.revoked ? 1 : 0);
            if (book.revoked) vm.assertEq(windlass.deviceOf(_crew.deviceAt(i)).lastSequence, book.revokedAt);
        }
    }

    function invariant_headsAreThoseOfTheEvents() public view {
        for (uint256 i = 0; i < _crew.SUBMITTERS(); ++i) {
            address submitter = _crew.submitterAt(i);
            vm.assertEq(windlass.headOf(submitter), _crew.headOf(submitter));
        }
    }

    /// @dev The invariants would prove nothing of a crew that never came to record, skip and anchor.
    function test_crew_comesToEveryOutcome() public {
        for (uint256 i = 0; i < 64; ++i) {
            _crew.register(i);
            _crew.record(i, uint8(i), uint8(i), uint8(3 * i));
            _crew.recordSigned(i, uint8(i));
            _crew.anchor(i, uint64(i), uint8(i), uint8(5 * i));
            _crew.trespass(i);
            _crew.replay(i, bytes1(uint8(i)));
            if (i % 16 == 0) _crew.rotate(i, i);
        }
        vm.assertTrue(_crew.recorded() > 20, "recorded");
        vm.assertTrue(_crew.skipped() > 20, "skipped");
        vm.assertTrue(_crew.anchors() > 20, "anchored");
        vm.assertTrue(_crew.replays() > 20, "repeated");
        invariant_noEventBreaksARule();
        invariant_sequencesAreThoseOfTheEvents();
        invariant_headsAreThoseOfTheEvents();
    }
}
