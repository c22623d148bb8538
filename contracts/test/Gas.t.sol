// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Barcode} from "../src/Barcode.sol";
import {IWindlass} from "../src/IWindlass.sol";
import {ArticleBarcode} from "./support/ArticleBarcode.sol";
import {Fleet} from "./support/Fleet.sol";
import {Gas} from "./support/Gas.sol";

/// @notice Gas of whole transactions (21,000, calldata and its EIP-7623 floor included), under Osaka's rules, against
///         the targets of the design and against `snapshots/*.json`.
/// @dev forge runs each call as a transaction of its own (`isolate`), so slots are cold and the floor applies; that it
///      does is asserted. Write the snapshots anew with `FORGE_SNAPSHOT_CHECK=false forge test`.
contract GasTest is Fleet {
    uint256 private constant BATCH_TARGET = 800;
    uint256 private constant BATCH_TARGET_OF_ONE = 15_000;
    uint256 private constant ANCHOR_TARGET = 36_000;
    uint256 private constant RANGE_TARGET = 6_500;
    uint256 private constant ANCHOR_TARGET_AT_1000 = 40;
    uint256 private constant ANCHOR_TARGET_AT_10000 = 5;
    uint256 private constant DIRECT_TARGET = 45_000;

    /// @dev EIP-7825: more than any transaction may use.
    uint256 private constant TRANSACTION_CAP = 16_777_216;

    Barcode private _barcode;
    ArticleBarcode private _article;

    function setUp() public {
        _deploy();
        vm.startPrank(OWNER);
        _barcode = new Barcode();
        _article = new ArticleBarcode();
        vm.stopPrank();
    }

    // ------------------------------------------------------------------------------------------- direct

    function test_gas_direct() public {
        bytes memory call = abi.encodeCall(Barcode.set, (4_006_381_333_931));
        _measure("direct", "set, first", OWNER, address(_barcode), call, 1);
        call = abi.encodeCall(Barcode.set, (4_006_381_333_948));
        uint256 later = _measure("direct", "set, later", OWNER, address(_barcode), call, 1);
        vm.assertLe(later, DIRECT_TARGET, "a later set");
        call = abi.encodeCall(Barcode.set, (4_006_381_333_931));
        _measure("direct", "the article's set, first", OWNER, address(_article), call, 1);
        call = abi.encodeCall(Barcode.set, (4_006_381_333_948));
        uint256 article = _measure("direct", "the article's set, later", OWNER, address(_article), call, 1);
        vm.assertLe(later, article, "dearer than the article's");
    }

    // -------------------------------------------------------------------------------------------- batch

    function test_gas_batch_10DevicesOf100Readings() public {
        uint256 gas = _measureBatch("10 devices x 100 readings, 9 bytes each", 10, 100, 9);
        vm.assertLe(gas, BATCH_TARGET * 1000, "9 bytes");
        gas = _measureBatch("10 devices x 100 readings, 12 bytes each", 10, 100, 12);
        vm.assertLe(gas, BATCH_TARGET * 1000, "12 bytes");
        gas = _measureBatch("10 devices x 100 readings, 16 bytes each", 10, 100, 16);
        vm.assertLe(gas, BATCH_TARGET * 1000, "16 bytes");
    }

    function test_gas_batch_otherShapes() public {
        _measureBatch("1 device x 1000 readings, 12 bytes each", 1, 1000, 12);
        _measureBatch("100 devices x 10 readings, 12 bytes each", 100, 10, 12);
        uint256 gas = _measureBatch("100 devices x 1 reading, 12 bytes each", 100, 1, 12);
        vm.assertLe(gas, BATCH_TARGET_OF_ONE * 100, "runs of one");
    }

    function test_gas_signed() public {
        _registerFleet(100);
        _measureSigned("100 secp256k1 devices x 1 reading", 100, false);
        _measureSigned("1 secp256k1 device x 1 reading", 1, false);
        _register(_p256(GATE, SECRET));
        _measureSigned("1 P-256 device x 1 reading", 1, true);
        vm.setEvmVersion("cancun");
        _measureSigned("1 P-256 device x 1 reading, no precompile", 1, true);
    }

    // ------------------------------------------------------------------------------------------- anchor

    function test_gas_anchor_withoutRanges() public {
        _measureAnchor("1000 readings, first", 1000, 0);
        uint256 gas = _measureAnchor("1000 readings, later", 1000, 0);
        vm.assertLe(gas, ANCHOR_TARGET_AT_1000 * 1000, "1,000 a batch");
        vm.assertLe(gas, ANCHOR_TARGET, "a batch");
        gas = _measureAnchor("10000 readings, later", 10_000, 0);
        vm.assertLe(gas, ANCHOR_TARGET_AT_10000 * 10_000, "10,000 a batch");
    }

    function test_gas_anchor_firstOf10000() public {
        _measureAnchor("10000 readings, first", 10_000, 0);
    }

    function test_gas_anchor_withRanges() public {
        _measureAnchor("1000 readings, 10 ranges, first", 1000, 10);
        uint256 gas = _measureAnchor("1000 readings, 10 ranges, later", 1000, 10);
        uint256 ranges = gas - _measureAnchor("1000 readings, no ranges beside them", 1000, 0);
        vm.snapshotValue("anchor", "1 range, later", ranges / 10);
        vm.assertLe(ranges, RANGE_TARGET * 10, "a range");
        _measureAnchor("10000 readings, 10 ranges, later", 10_000, 10);
    }

    // ------------------------------------------------------------------------------------------ registry

    function test_gas_registry() public {
        IWindlass.Registration[] memory registrations = _fleet(100);
        bytes memory call = abi.encodeCall(IWindlass.register, (registrations));
        _measure("registry", "register 100 secp256k1 devices", OWNER, address(windlass), call, 100);
        _measure("registry", "register 100 secp256k1 devices, again", OWNER, address(windlass), call, 100);
        call = abi.encodeCall(IWindlass.register, (_list(_p256(GATE, SECRET))));
        _measure("registry", "register 1 P-256 device", OWNER, address(windlass), call, 1);
    }

    // ------------------------------------------------------------------------------------------ helpers

    function _measureBatch(string memory name, uint256 devices, uint32 readings, uint256 bytesEach)
        private
        returns (uint256)
    {
        _registerFleet(devices);
        IWindlass.Run[] memory runs = new IWindlass.Run[](devices);
        for (uint256 i = 0; i < devices; ++i) {
            bytes32 device = _device(i);
            uint64 first = _lastOf(device) + 1;
            runs[i] = IWindlass.Run(device, 1, first, readings, _noise(device, first, bytesEach * readings), "");
            runs[i].signature = _compact(SECRET, _digest(runs[i]));
        }
        bytes memory call = abi.encodeCall(IWindlass.record, (runs));
        uint256 gas = _measure("batch", name, STRANGER, address(windlass), call, devices * readings);
        for (uint256 i = 0; i < devices; ++i) {
            vm.assertEq(_lastOf(_device(i)), runs[i].firstSequence + readings - 1, "recorded");
        }
        return gas;
    }

    function _measureSigned(string memory name, uint256 devices, bool p256) private {
        IWindlass.SignedReading[] memory readings = new IWindlass.SignedReading[](devices);
        for (uint256 i = 0; i < devices; ++i) {
            bytes32 device = p256 ? GATE : _device(i);
            readings[i] = _reading(device, _lastOf(device) + 1);
            if (p256) readings[i].signature = _signP256(SECRET, _digest(readings[i]));
        }
        bytes memory call = abi.encodeCall(IWindlass.recordSigned, (readings));
        _measure("signed", name, STRANGER, address(windlass), call, devices);
        for (uint256 i = 0; i < devices; ++i) {
            vm.assertEq(_lastOf(readings[i].device), readings[i].sequence, "recorded");
        }
    }

    function _measureAnchor(string memory name, uint32 count, uint256 devices) private returns (uint256) {
        IWindlass.Range[] memory ranges = new IWindlass.Range[](devices);
        for (uint256 i = 0; i < devices; ++i) {
            uint64 last = windlass.anchoredSequenceOf(_device(i));
            ranges[i] = IWindlass.Range(_device(i), last + 1, last + count / uint32(devices));
        }
        bytes32 root = keccak256(bytes(name));
        bytes memory call = abi.encodeCall(
            IWindlass.anchor, (windlass.headOf(OWNER), 70_000, root, count, 9_000_000, keccak256("log"), ranges)
        );
        return _measure("anchor", name, OWNER, address(windlass), call, count);
    }

    /// @dev Stores the gas of the transaction, and per reading rounded up.
    function _measure(
        string memory group,
        string memory name,
        address sender,
        address target,
        bytes memory call,
        uint256 readings
    ) private returns (uint256 gas) {
        vm.prank(sender);
        (bool ok,) = target.call(call);
        gas = vm.lastCallGas().gasTotalUsed;
        vm.assertTrue(ok, name);
        vm.assertLe(Gas.floorOf(call), gas, "less than the floor of its calldata");
        vm.assertLe(gas, TRANSACTION_CAP, "more than a transaction may use");
        vm.snapshotValue(group, string.concat(name, ": transaction"), gas);
        vm.snapshotValue(group, string.concat(name, ": each"), (gas + readings - 1) / readings);
    }

    function _registerFleet(uint256 devices) private {
        IWindlass.Registration[] memory registrations = _fleet(devices);
        vm.prank(OWNER);
        windlass.register(registrations);
    }

    function _fleet(uint256 devices) private pure returns (IWindlass.Registration[] memory registrations) {
        registrations = new IWindlass.Registration[](devices);
        for (uint256 i = 0; i < devices; ++i) {
            registrations[i] = _secp(_device(i), SECRET);
        }
    }

    function _device(uint256 index) private pure returns (bytes32) {
        return keccak256(abi.encode("gas", index));
    }

    /// @dev Packed readings are dense: as good as no zero byte that would come cheaper.
    function _noise(bytes32 device, uint64 first, uint256 length) private pure returns (bytes memory noise) {
        noise = new bytes(length);
        bytes32 word;
        for (uint256 i = 0; i < length; ++i) {
            if (i % 32 == 0) word = keccak256(abi.encode(device, first, i));
            noise[i] = word[i % 32];
        }
        noise[0] = 0x01;
    }
}
