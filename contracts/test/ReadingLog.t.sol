// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "../src/IWindlass.sol";
import {Fleet} from "./support/Fleet.sol";
import {Vm} from "./support/Vm.sol";

contract ReadingLogTest is Fleet {
    uint256 private constant SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    uint256 private constant P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551;

    function setUp() public {
        _deploy();
        _register(_secp(DOCK, SECRET));
        _register(_p256(GATE, SECRET));
    }

    // ------------------------------------------------------------------------------------------- record

    function test_record_emitsTheRun_andAdvancesTheSequence() public {
        IWindlass.Run memory run = _run(DOCK, 1, 100);
        _expectRecorded(run);
        vm.startPrank(STRANGER);
        windlass.record(_list(run));
        vm.assertEq(_lastOf(DOCK), 100);
        run = _run(DOCK, 101, 1);
        _expectRecorded(run);
        windlass.record(_list(run));
        vm.assertEq(_lastOf(DOCK), 101);
    }

    function test_record_takesAP256Signature() public {
        IWindlass.Run memory run = _run(GATE, 1, 7);
        run.signature = _signP256(SECRET, _digest(run));
        _expectRecorded(run);
        windlass.record(_list(run));
        vm.assertEq(_lastOf(GATE), 7);
    }

    function test_record_takesAP256Signature_whereTheChainHasNoPrecompile() public {
        vm.setEvmVersion("cancun");
        test_record_takesAP256Signature();
        IWindlass.Run memory run = _run(GATE, 8, 1);
        run.signature = _signP256(OTHER_SECRET, _digest(run));
        _assertSkipped(run, IWindlass.SkipReason.BadSignature);
    }

    function test_record_aHighS_isSkipped_whereTheChainHasNoPrecompile() public {
        vm.setEvmVersion("cancun");
        IWindlass.Run memory run = _run(GATE, 1, 1);
        (bytes32 r, bytes32 s) = abi.decode(_signP256(SECRET, _digest(run)), (bytes32, bytes32));
        _assertBadSignature(run, abi.encodePacked(r, P256_ORDER - uint256(s)));
        run.signature = abi.encodePacked(r, s);
        _expectRecorded(run);
        windlass.record(_list(run));
    }

    function test_recordSigned_aHighS_isSkipped_forBothKinds() public {
        IWindlass.SignedReading memory reading = _reading(DOCK, 1);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SECRET, _digest(reading));
        reading.signature = abi.encodePacked(r, SECP256K1_ORDER - uint256(s), v == 27 ? uint8(28) : uint8(27));
        _assertSkipped(reading, IWindlass.SkipReason.BadSignature);
        reading = _reading(GATE, 1);
        (r, s) = abi.decode(_signP256(SECRET, _digest(reading)), (bytes32, bytes32));
        reading.signature = abi.encodePacked(r, P256_ORDER - uint256(s));
        _assertSkipped(reading, IWindlass.SkipReason.BadSignature);
    }

    function test_record_takesA65ByteSignature() public {
        IWindlass.Run memory run = _run(DOCK, 1, 1);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SECRET, _digest(run));
        run.signature = abi.encodePacked(r, s, v);
        _expectRecorded(run);
        windlass.record(_list(run));
    }

    function test_record_nothing_emitsNothing() public {
        vm.recordLogs();
        windlass.record(new IWindlass.Run[](0));
        vm.assertEq(vm.getRecordedLogs().length, 0);
    }

    function test_record_badRuns_neverHarmTheirNeighbours() public {
        IWindlass.Run[] memory runs = new IWindlass.Run[](5);
        runs[0] = _run(STRANGE, 1, 1);
        runs[1] = _run(DOCK, 1, 2);
        runs[2] = _run(DOCK, 4, 1);
        runs[3] = _run(DOCK, 3, 1);
        runs[4] = _run(DOCK, 4, 1);
        _expectSkipped(runs[0], IWindlass.SkipReason.UnknownDevice);
        _expectRecorded(runs[1]);
        _expectSkipped(runs[2], IWindlass.SkipReason.Gap);
        _expectRecorded(runs[3]);
        _expectRecorded(runs[4]);
        windlass.record(runs);
        vm.assertEq(_lastOf(DOCK), 4);
    }

    // --------------------------------------------------------------------------------------- the reasons

    function test_record_anUnknownDevice_isSkipped() public {
        _assertSkipped(_run(STRANGE, 1, 1), IWindlass.SkipReason.UnknownDevice);
    }

    function test_record_aRevokedDevice_isSkipped() public {
        windlass.record(_list(_run(DOCK, 1, 1)));
        vm.prank(OWNER);
        windlass.revoke(DOCK);
        _assertSkipped(_run(DOCK, 2, 1), IWindlass.SkipReason.Revoked);
        _assertSkipped(_run(DOCK, 1, 1), IWindlass.SkipReason.AlreadyRecorded);
    }

    function test_record_anotherEpoch_isSkipped() public {
        IWindlass.Run memory run = _run(DOCK, 1, 1);
        run.epoch = 2;
        run.signature = _compact(SECRET, _digest(run));
        _assertSkipped(run, IWindlass.SkipReason.WrongEpoch);
        IWindlass.Registration memory next = _secp(DOCK, OTHER_SECRET);
        vm.prank(OWNER);
        windlass.rotate(next);
        _assertSkipped(_run(DOCK, 1, 1), IWindlass.SkipReason.WrongEpoch);
        run.signature = _compact(OTHER_SECRET, _digest(run));
        _expectRecorded(run);
        windlass.record(_list(run));
    }

    function test_record_again_isSkipped() public {
        windlass.record(_list(_run(DOCK, 1, 10)));
        _assertSkipped(_run(DOCK, 1, 10), IWindlass.SkipReason.AlreadyRecorded);
        _assertSkipped(_run(DOCK, 4, 2), IWindlass.SkipReason.AlreadyRecorded);
        _assertSkipped(_run(DOCK, 10, 1), IWindlass.SkipReason.AlreadyRecorded);
    }

    function test_record_notRightAfterTheLast_isSkippedAsGap() public {
        _assertSkipped(_run(DOCK, 2, 1), IWindlass.SkipReason.Gap);
        windlass.record(_list(_run(DOCK, 1, 10)));
        _assertSkipped(_run(DOCK, 12, 1), IWindlass.SkipReason.Gap);
        _assertSkipped(_run(DOCK, 10, 2), IWindlass.SkipReason.Gap);
        _assertSkipped(_run(DOCK, 1, 11), IWindlass.SkipReason.Gap);
    }

    function test_record_malformed_isSkipped() public {
        _assertSkipped(_run(DOCK, 1, 0), IWindlass.SkipReason.Malformed);
        _assertSkipped(_run(DOCK, 0, 1), IWindlass.SkipReason.Malformed);
        _assertSkipped(_run(DOCK, 0, 0), IWindlass.SkipReason.Malformed);
        _assertSkipped(_run(DOCK, type(uint64).max, type(uint32).max), IWindlass.SkipReason.Malformed);
        _assertSkipped(_run(DOCK, 1 << 48, 1), IWindlass.SkipReason.Malformed);
        _assertSkipped(_run(DOCK, type(uint48).max, 1), IWindlass.SkipReason.Gap);
        IWindlass.Run memory run = _run(DOCK, 1, 1);
        run.readings = "";
        run.signature = _compact(SECRET, _digest(run));
        _assertSkipped(run, IWindlass.SkipReason.Malformed);
    }

    function test_record_badSecp256k1Signatures_areSkipped() public {
        IWindlass.Run memory run = _run(DOCK, 1, 1);
        bytes32 digest = _digest(run);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SECRET, digest);
        bytes32 highS = bytes32(SECP256K1_ORDER - uint256(s));
        _assertBadSignature(run, "");
        _assertBadSignature(run, new bytes(64));
        _assertBadSignature(run, new bytes(65));
        _assertBadSignature(run, new bytes(66));
        _assertBadSignature(run, _compact(OTHER_SECRET, digest));
        _assertBadSignature(run, _signP256(SECRET, digest));
        _assertBadSignature(run, abi.encodePacked(r, highS, v == 27 ? uint8(28) : uint8(27)));
        _assertBadSignature(run, abi.encodePacked(r, s, v - 27));
        // EIP-2098 keeps the parity in the top bit of `s`: a high `s` of which that bit is taken off, too.
        bytes32 parity = v == 27 ? bytes32(uint256(1) << 255) : bytes32(0);
        _assertBadSignature(run, abi.encodePacked(r, highS));
        _assertBadSignature(run, abi.encodePacked(r, highS | parity));
    }

    function test_record_badP256Signatures_areSkipped() public {
        IWindlass.Run memory run = _run(GATE, 1, 1);
        bytes32 digest = _digest(run);
        bytes memory good = _signP256(SECRET, digest);
        (bytes32 r, bytes32 s) = abi.decode(good, (bytes32, bytes32));
        _assertBadSignature(run, "");
        _assertBadSignature(run, new bytes(64));
        _assertBadSignature(run, _compact(SECRET, digest));
        _assertBadSignature(run, _signP256(OTHER_SECRET, digest));
        _assertBadSignature(run, abi.encodePacked(r, P256_ORDER - uint256(s)));
        _assertBadSignature(run, abi.encodePacked(good, uint8(27)));
    }

    function test_record_forAnotherContractOrChain_isSkipped() public {
        IWindlass.Run memory run = _run(DOCK, 1, 1);
        vm.chainId(block.chainid + 1);
        _assertSkipped(run, IWindlass.SkipReason.BadSignature);
    }

    function test_fuzz_record_aChangedRun_isNeverRecorded(
        uint32 epoch,
        uint64 first,
        uint32 count,
        bytes memory readings
    ) public {
        IWindlass.Run memory signed = _run(DOCK, 1, 3);
        IWindlass.Run memory changed = IWindlass.Run(DOCK, epoch, first, count, readings, signed.signature);
        vm.assume(keccak256(abi.encode(changed)) != keccak256(abi.encode(signed)));
        windlass.record(_list(changed));
        vm.assertEq(_lastOf(DOCK), 0);
    }

    function test_fuzz_record_anySignature_ofNoKey_isSkipped(bytes memory signature) public {
        IWindlass.Run memory run = _run(DOCK, 1, 1);
        vm.assume(keccak256(run.signature) != keccak256(signature));
        _assertBadSignature(run, signature);
    }

    function test_fuzz_record_anySizeOfReadings_isEmittedAsGiven(uint32 count, bytes memory readings) public {
        vm.assume(count > 0 && readings.length > 0);
        IWindlass.Run memory run = IWindlass.Run(DOCK, 1, 1, count, readings, "");
        run.signature = _compact(SECRET, _digest(run));
        _expectRecorded(run);
        windlass.record(_list(run));
        vm.assertEq(_lastOf(DOCK), count);
    }

    // ------------------------------------------------------------------- calldata that no encoder writes

    function test_record_numbersWiderThanTheirTypes_revert() public {
        // Words of the call: 0 offset, 1 length, 2 offset of the run, 3 device, 4 epoch, 5 first, 6 count.
        bytes memory call = abi.encodeCall(IWindlass.record, (_list(_run(DOCK, 1, 1))));
        _assertReverts(_withWord(call, 4, 1 << 32 | 1));
        _assertReverts(_withWord(call, 5, 1 << 64 | 1));
        _assertReverts(_withWord(call, 6, 1 << 32 | 1));
        _assertReverts(_withWord(call, 4, type(uint256).max));
    }

    function test_record_bytesBeyondTheCalldata_revert() public {
        bytes memory call = abi.encodeCall(IWindlass.record, (_list(_run(DOCK, 1, 1))));
        uint256[4] memory offsets = [uint256(1 << 20), 1 << 63, 1 << 64, 1 << 254];
        for (uint256 i = 0; i < offsets.length; ++i) {
            // 7: offset of the readings, 8: of the signature, 9: length of the readings.
            _assertReverts(_withWord(call, 7, offsets[i]));
            _assertReverts(_withWord(call, 8, offsets[i]));
            _assertReverts(_withWord(call, 9, offsets[i]));
        }
    }

    function test_record_paddingThatIsNotZero_isNotEmitted() public {
        IWindlass.Run memory run = _run(DOCK, 1, 1);
        bytes memory call = abi.encodeCall(IWindlass.record, (_list(run)));
        // Words 10 and 11 of the arguments are the readings: 33 bytes.
        bytes memory dirty = _withWord(call, 11, uint256(bytes32(run.readings[32])) | type(uint248).max);
        vm.assertTrue(keccak256(dirty) != keccak256(call));
        vm.recordLogs();
        (bool ok,) = address(windlass).call(dirty);
        vm.assertTrue(ok);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1);
        vm.assertEq(logs[0].data, abi.encode(run.epoch, run.firstSequence, run.count, run.readings));
        vm.assertEq(logs[0].topics.length, 2);
        vm.assertEq(logs[0].topics[1], run.device);
    }

    /// @dev Runs that the short way takes, runs that it leaves to the compiler's code, and runs that both leave, mixed.
    function test_fuzz_record_usualAndUnusualRuns_areRecordedAlike(uint8[8] memory forms, uint8[8] memory lengths)
        public
    {
        IWindlass.Run[] memory runs = new IWindlass.Run[](forms.length);
        uint64 last = 0;
        uint64 lastOfGate = 0;
        for (uint256 i = 0; i < forms.length; ++i) {
            uint256 form = forms[i] % 5;
            bytes memory readings = new bytes(uint256(lengths[i]) + 1);
            readings[lengths[i]] = 0xff;
            uint64 first = form == 2 ? lastOfGate + 1 : last + 1;
            runs[i] = IWindlass.Run(form == 2 ? GATE : DOCK, 1, first, uint32(lengths[i]) + 1, readings, "");
            bytes32 digest = _digest(runs[i]);
            if (form == 0) {
                runs[i].signature = _compact(SECRET, digest);
            } else if (form == 1) {
                (uint8 v, bytes32 r, bytes32 s) = vm.sign(SECRET, digest);
                runs[i].signature = abi.encodePacked(r, s, v);
            } else if (form == 2) {
                runs[i].signature = _signP256(SECRET, digest);
            } else {
                runs[i].signature = _compact(OTHER_SECRET, digest);
                if (form == 4) runs[i].firstSequence += 1;
                _expectSkipped(runs[i], form == 3 ? IWindlass.SkipReason.BadSignature : IWindlass.SkipReason.Gap);
                continue;
            }
            _expectRecorded(runs[i]);
            if (form == 2) lastOfGate += runs[i].count;
            else last += runs[i].count;
        }
        windlass.record(runs);
        vm.assertEq(_lastOf(DOCK), last);
        vm.assertEq(_lastOf(GATE), lastOfGate);
    }

    function test_record_theLastSequence_mayBeReachedAndNotPassed() public {
        uint64 most = type(uint48).max;
        // The sequence stands above the signer. Storage is set, since so many readings take a while.
        bytes32 slot = keccak256(abi.encode(DOCK, uint256(2)));
        vm.store(address(windlass), slot, bytes32(uint256(vm.load(address(windlass), slot)) | uint256(most - 1) << 160));
        vm.assertEq(_lastOf(DOCK), most - 1);
        _assertSkipped(_run(DOCK, most, 2), IWindlass.SkipReason.Malformed);
        _expectRecorded(_run(DOCK, most, 1));
        windlass.record(_list(_run(DOCK, most, 1)));
        vm.assertEq(_lastOf(DOCK), most);
        _assertSkipped(_run(DOCK, most + 1, 1), IWindlass.SkipReason.Malformed);
    }

    function test_fuzz_record_aChangedWord_recordsNothing(uint256 index, uint256 word) public {
        bytes memory call = abi.encodeCall(IWindlass.record, (_list(_run(DOCK, 1, 3))));
        // From the run's device on to its signature's second half, without the padding of the readings.
        bytes memory changed = _withWord(call, 3 + index % 11, word);
        vm.assume(keccak256(changed) != keccak256(call) && index % 11 != 8);
        (bool ok,) = address(windlass).call(changed);
        vm.assertEq(_lastOf(DOCK), 0);
        ok;
    }

    function test_fuzz_record_manyRuns_emitEachItsOwn(uint8[5] memory lengths, bytes32 noise) public {
        IWindlass.Run[] memory runs = new IWindlass.Run[](lengths.length);
        uint64 next = 1;
        for (uint256 i = 0; i < lengths.length; ++i) {
            bytes memory readings = new bytes(uint256(lengths[i]) + 1);
            for (uint256 j = 0; j < readings.length; ++j) {
                readings[j] = noise[(i + j) % 32] | 0x01;
            }
            runs[i] = IWindlass.Run(DOCK, 1, next, uint32(lengths[i]) + 1, readings, "");
            runs[i].signature = _compact(SECRET, _digest(runs[i]));
            next += uint64(lengths[i]) + 1;
            _expectRecorded(runs[i]);
        }
        windlass.record(runs);
        vm.assertEq(_lastOf(DOCK), next - 1);
    }

    // ------------------------------------------------------------------------------------- recordSigned

    function test_recordSigned_emitsTheReading_inPackingTwo() public {
        IWindlass.SignedReading[] memory readings = new IWindlass.SignedReading[](3);
        readings[0] = _reading(DOCK, 1);
        readings[1] = _reading(GATE, 1);
        readings[1].signature = _signP256(SECRET, _digest(readings[1]));
        readings[2] = _reading(DOCK, 2);
        for (uint256 i = 0; i < readings.length; ++i) {
            _expectRecorded(readings[i]);
        }
        vm.prank(STRANGER);
        windlass.recordSigned(readings);
        vm.assertEq(_lastOf(DOCK), 2);
        vm.assertEq(_lastOf(GATE), 1);
    }

    function test_recordSigned_goesOnWhereRecordEnded() public {
        windlass.record(_list(_run(DOCK, 1, 5)));
        _expectRecorded(_reading(DOCK, 6));
        windlass.recordSigned(_list(_reading(DOCK, 6)));
        _expectRecorded(_run(DOCK, 7, 2));
        windlass.record(_list(_run(DOCK, 7, 2)));
    }

    function test_recordSigned_hasTheSkipRulesOfRecord() public {
        _assertSkipped(_reading(STRANGE, 1), IWindlass.SkipReason.UnknownDevice);
        _assertSkipped(_reading(DOCK, 2), IWindlass.SkipReason.Gap);
        _assertSkipped(_reading(DOCK, 0), IWindlass.SkipReason.Malformed);
        _assertSkipped(_reading(GATE, 1), IWindlass.SkipReason.BadSignature);
        IWindlass.SignedReading memory reading = _reading(DOCK, 1);
        reading.payload = "";
        _assertSkipped(reading, IWindlass.SkipReason.Malformed);
        reading = _reading(DOCK, 1);
        reading.epoch = 2;
        _assertSkipped(reading, IWindlass.SkipReason.WrongEpoch);
        windlass.recordSigned(_list(_reading(DOCK, 1)));
        _assertSkipped(_reading(DOCK, 1), IWindlass.SkipReason.AlreadyRecorded);
        vm.prank(OWNER);
        windlass.revoke(DOCK);
        _assertSkipped(_reading(DOCK, 2), IWindlass.SkipReason.Revoked);
    }

    function test_recordSigned_aRunSignature_isSkipped() public {
        IWindlass.SignedReading memory reading = _reading(DOCK, 1);
        reading.signature = _run(DOCK, 1, 1).signature;
        _assertSkipped(reading, IWindlass.SkipReason.BadSignature);
    }

    function test_fuzz_recordSigned_aChangedReading_isNeverRecorded(
        uint32 epoch,
        uint64 sequence,
        uint64 observedAt,
        bytes memory payload
    ) public {
        IWindlass.SignedReading memory signed = _reading(DOCK, 1);
        IWindlass.SignedReading memory changed =
            IWindlass.SignedReading(DOCK, epoch, sequence, observedAt, payload, signed.signature);
        vm.assume(keccak256(abi.encode(changed)) != keccak256(abi.encode(signed)));
        windlass.recordSigned(_list(changed));
        vm.assertEq(_lastOf(DOCK), 0);
    }

    // ------------------------------------------------------------------------------------------ helpers

    /// @dev Word `index` of the arguments replaced.
    function _withWord(bytes memory call, uint256 index, uint256 word) private pure returns (bytes memory changed) {
        changed = bytes.concat(call);
        for (uint256 i = 0; i < 32; ++i) {
            changed[4 + 32 * index + i] = bytes32(word)[i];
        }
    }

    function _assertReverts(bytes memory call) private {
        (bool ok,) = address(windlass).call(call);
        vm.assertFalse(ok);
        vm.assertEq(_lastOf(DOCK), 0);
    }

    function _expectRecorded(IWindlass.SignedReading memory reading) private {
        vm.expectEmit(address(windlass));
        bytes memory packed = abi.encodePacked(uint8(2), reading.observedAt, reading.payload);
        emit IWindlass.Recorded(reading.device, reading.epoch, reading.sequence, 1, packed);
    }

    function _assertBadSignature(IWindlass.Run memory run, bytes memory signature) private {
        run.signature = signature;
        _assertSkipped(run, IWindlass.SkipReason.BadSignature);
    }
}
