// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "../../src/IWindlass.sol";
import {Windlass} from "../../src/Windlass.sol";
import {Fleet} from "./Fleet.sol";
import {Vm} from "./Vm.sol";

/// @notice Acts on a Windlass at random, rightly and wrongly, and keeps its own books from the events alone.
contract Crew is Fleet {
    struct Book {
        uint64 lastSequence;
        uint32 epoch;
        bool revoked;
        uint64 revokedAt;
        uint64 anchored;
    }

    uint256 public constant DEVICES = 3;
    uint256 public constant SUBMITTERS = 2;

    mapping(bytes32 device => Book book) private _books;
    mapping(address submitter => bytes32 head) private _headsFromEvents;
    mapping(bytes32 device => uint256 secret) private _secrets;

    /// @notice Set by the first event that no rule allows; the invariants ask for it.
    string public broken;
    uint256 public recorded;
    uint256 public skipped;
    uint256 public anchors;
    uint256 public replays;
    bytes private _lastCall;
    mapping(bytes32 claim => bool signed) private _signed;

    constructor(Windlass deployed) {
        windlass = deployed;
        for (uint256 i = 0; i < DEVICES; ++i) {
            _secrets[deviceAt(i)] = SECRET;
        }
    }

    // ------------------------------------------------------------------------------------------ actions

    function register(uint256 seed) external {
        bytes32 device = deviceAt(seed);
        if (_books[device].epoch != 0) return;
        vm.recordLogs();
        _register(_secp(device, _secrets[device]));
        _bookKeys(device, vm.getRecordedLogs(), 1);
    }

    function rotate(uint256 seed, uint256 secretSeed) external {
        bytes32 device = deviceAt(seed);
        Book storage book = _books[device];
        if (book.epoch == 0 || book.revoked) return;
        uint256 secret = uint256(keccak256(abi.encode(secretSeed))) >> 1;
        IWindlass.Registration memory registration = _secp(device, secret);
        vm.recordLogs();
        vm.prank(OWNER);
        windlass.rotate(registration);
        _bookKeys(device, vm.getRecordedLogs(), _secrets[device] != secret ? 1 : 0);
        _secrets[device] = secret;
    }

    /// @dev One time in four, so that most of a sequence of acts has living devices.
    function revoke(uint256 seed) external {
        bytes32 device = deviceAt(seed);
        Book storage book = _books[device];
        if (book.epoch == 0 || seed % 4 != 0) return;
        vm.prank(OWNER);
        windlass.revoke(device);
        if (!book.revoked) book.revokedAt = book.lastSequence;
        book.revoked = true;
    }

    /// @dev `skew` and `lie` make a wrong start, epoch or signer now and then.
    function record(uint256 seed, uint8 count, uint8 skew, uint8 lie) external {
        (skew, lie) = (_mix(skew), _mix(lie));
        IWindlass.Run[] memory runs = new IWindlass.Run[](2);
        for (uint256 i = 0; i < runs.length; ++i) {
            bytes32 device = deviceAt(seed % DEVICES + i);
            Book storage book = _books[device];
            uint64 first = skew < 32 ? book.lastSequence + skew % 4 : book.lastSequence + 1;
            uint32 epoch = lie < 16 ? book.epoch + 1 : book.epoch;
            uint256 secret = lie > 240 ? OTHER_SECRET : _secrets[device];
            runs[i] = IWindlass.Run(device, epoch, first, count % 8, _packed(first, count), "");
            runs[i].signature = _compact(secret, _digest(runs[i]));
            bytes32 claim = keccak256(abi.encode(device, epoch, first, runs[i].count, runs[i].readings));
            if (secret == _secrets[device]) _signed[claim] = true;
        }
        _lastCall = abi.encodeCall(IWindlass.record, (runs));
        vm.recordLogs();
        windlass.record(runs);
        _book(vm.getRecordedLogs(), runs.length);
    }

    function recordSigned(uint256 seed, uint8 skew) external {
        skew = _mix(skew);
        bytes32 device = deviceAt(seed);
        Book storage book = _books[device];
        uint64 sequence = skew < 64 ? book.lastSequence + skew % 4 : book.lastSequence + 1;
        IWindlass.SignedReading memory reading =
            IWindlass.SignedReading(device, book.epoch, sequence, uint64(seed), "123", "");
        reading.signature = _compact(_secrets[device], _digest(reading));
        bytes memory packed = abi.encodePacked(uint8(2), reading.observedAt, reading.payload);
        _signed[keccak256(abi.encode(device, book.epoch, sequence, uint32(1), packed))] = true;
        vm.recordLogs();
        windlass.recordSigned(_list(reading));
        _book(vm.getRecordedLogs(), 1);
    }

    /// @dev Anchors rightly, repeats, or tries a wrong head or range; a refusal must leave everything as it was.
    function anchor(uint256 seed, uint64 batch, uint8 span, uint8 lie) external {
        lie = _mix(lie);
        address submitter = submitterAt(seed);
        bytes32 device = deviceAt(seed);
        bytes32 previous = lie < 32 ? keccak256(abi.encode(lie)) : _headsFromEvents[submitter];
        uint64 first = _books[device].anchored + (lie > 224 ? 2 : 1);
        IWindlass.Range[] memory ranges = new IWindlass.Range[](span % 2);
        if (ranges.length == 1) ranges[0] = IWindlass.Range(device, first, first + span);
        bytes memory call =
            abi.encodeCall(IWindlass.anchor, (previous, batch, keccak256(abi.encode(seed)), 1, 0, 0, ranges));
        bool right = lie >= 32 && (lie <= 224 || ranges.length == 0);
        bytes32 rangesHash = ranges.length == 0 ? bytes32(0) : keccak256(abi.encode(ranges));
        _sendAnchor(submitter, call, rangesHash, right ? 1 : 0);
        if (right && ranges.length == 1) _books[device].anchored = first + span;
        if (right) _sendAnchor(submitter, call, rangesHash, 0);
    }

    /// @dev What nobody may do: roles for those who have none, a key for a revoked device, another first key.
    function trespass(uint256 seed) external {
        bytes32 device = deviceAt(seed);
        IWindlass.Registration memory other = _secp(device, OTHER_SECRET);
        address intruder = address(uint160(uint256(keccak256(abi.encode(seed))) | 1));
        _refused(intruder, abi.encodeCall(IWindlass.register, (_list(other))));
        _refused(intruder, abi.encodeCall(IWindlass.rotate, (other)));
        _refused(intruder, abi.encodeCall(IWindlass.revoke, (device)));
        _refused(intruder, abi.encodeCall(IWindlass.setRegistrar, (intruder, true)));
        _refused(intruder, abi.encodeCall(IWindlass.setSubmitter, (intruder, true)));
        _refused(intruder, abi.encodeCall(IWindlass.pinRoot, (bytes32(seed | 1), 1)));
        bytes32 head = _headsFromEvents[OWNER];
        IWindlass.Range[] memory none = new IWindlass.Range[](0);
        _refused(intruder, abi.encodeCall(IWindlass.anchor, (head, 1, bytes32(seed | 1), 1, 0, 0, none)));
        if (_books[device].revoked) _refused(OWNER, abi.encodeCall(IWindlass.rotate, (other)));
        if (_books[device].epoch != 0 && _secrets[device] != OTHER_SECRET) {
            _refused(OWNER, abi.encodeCall(IWindlass.register, (_list(other))));
        }
    }

    /// @dev Sends the last call of `record` again, whole and with one byte changed. A run that came too early may be
    ///      recorded now; nothing may be recorded that the crew has not signed.
    function replay(uint256 place, bytes1 value) external {
        if (_lastCall.length == 0) return;
        bytes memory call = _lastCall;
        for (uint256 i = 0; i < 2; ++i) {
            vm.recordLogs();
            (bool ok,) = address(windlass).call(call);
            Vm.Log[] memory logs = vm.getRecordedLogs();
            if (!ok && i == 0) broken = "a repeat of a whole call was refused";
            if (ok) _book(logs, 2);
            // After selector, offset and length of the list.
            call[68 + place % (call.length - 68)] = value;
            ++replays;
        }
    }

    // -------------------------------------------------------------------------------------------- books

    function bookOf(bytes32 device) external view returns (Book memory) {
        return _books[device];
    }

    function headOf(address submitter) external view returns (bytes32) {
        return _headsFromEvents[submitter];
    }

    function deviceAt(uint256 seed) public pure returns (bytes32) {
        return keccak256(abi.encode("crew", seed % DEVICES));
    }

    function submitterAt(uint256 seed) public pure returns (address) {
        return seed % SUBMITTERS == 0 ? OWNER : STRANGER;
    }

    /// @dev The fuzzer likes small numbers and ends of ranges; the share of lies shall not depend on that.
    function _mix(uint8 seed) private pure returns (uint8) {
        return uint8(uint256(keccak256(abi.encode(seed))));
    }

    function _refused(address sender, bytes memory call) private {
        vm.prank(sender);
        (bool ok,) = address(windlass).call(call);
        if (ok) broken = "a call that nobody may make was taken";
    }

    /// @dev Each new key is told, and its epoch is one more than the last one told.
    function _bookKeys(bytes32 device, Vm.Log[] memory logs, uint256 expectedEvents) private {
        if (logs.length != expectedEvents) broken = "a key was told twice or not at all";
        for (uint256 i = 0; i < logs.length; ++i) {
            uint32 epoch = uint32(uint256(logs[i].topics[2]));
            if (logs[i].topics[0] != IWindlass.Registered.selector || logs[i].topics[1] != device) {
                broken = "another event than that of a key";
            }
            if (epoch != _books[device].epoch + 1) broken = "an epoch went back or was left out";
            _books[device].epoch = epoch;
        }
    }

    function _sendAnchor(address submitter, bytes memory call, bytes32 rangesHash, uint256 expectedEvents) private {
        vm.recordLogs();
        vm.prank(submitter);
        (bool ok,) = address(windlass).call(call);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        if (logs.length != expectedEvents) {
            broken = "an anchor that was due was refused, or one that was not was taken";
        }
        if (!ok || logs.length == 0) return;
        (uint32 count, uint64 logSize, bytes32 logRoot, bytes32 told) =
            abi.decode(logs[0].data, (uint32, uint64, bytes32, bytes32));
        (uint64 batch, bytes32 root) = (uint64(uint256(logs[0].topics[2])), logs[0].topics[3]);
        bytes32 previous = _headsFromEvents[submitter];
        bytes32 head = keccak256(abi.encode(previous, batch, root, count, logSize, logRoot, rangesHash));
        if (head != told) broken = "a head that its event does not make";
        if (address(uint160(uint256(logs[0].topics[1]))) != submitter) broken = "another submitter's anchor";
        _headsFromEvents[submitter] = head;
        ++anchors;
    }

    function _book(Vm.Log[] memory logs, uint256 runs) private {
        if (logs.length != runs) broken = "not one event for each run";
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == IWindlass.Recorded.selector) {
                _bookRecorded(logs[i]);
            } else if (logs[i].topics[0] == IWindlass.Skipped.selector) {
                ++skipped;
            } else {
                broken = "an event that record does not have";
            }
        }
    }

    function _bookRecorded(Vm.Log memory log) private {
        Book storage book = _books[log.topics[1]];
        (uint32 epoch, uint64 first, uint32 count, bytes memory readings) =
            abi.decode(log.data, (uint32, uint64, uint32, bytes));
        bytes32 claim = keccak256(abi.encode(log.topics[1], epoch, first, count, readings));
        if (!_signed[claim]) broken = "something was recorded that nobody signed";
        if (first != book.lastSequence + 1) broken = "a sequence went back or left a hole";
        if (book.revoked) broken = "a revoked device recorded";
        if (book.epoch == 0 || epoch != book.epoch) broken = "a key that is not in force recorded";
        if (count == 0) broken = "an empty run was recorded";
        book.lastSequence += count;
        ++recorded;
    }
}
