// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "../src/IWindlass.sol";
import {Windlass} from "../src/Windlass.sol";
import {Fleet} from "./support/Fleet.sol";

/// @notice The contract against `tests/vectors/*.json`, which public JavaScript libraries made.
contract VectorsTest is Fleet {
    /// @dev anvil's first account: its first contract has the address that the vectors name.
    address private constant DEPLOYER = 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266;

    string private _typed;
    string private _merkle;
    string private _heads;

    function setUp() public {
        vm.setEvmVersion("osaka");
        vm.chainId(31337);
        vm.prank(DEPLOYER);
        windlass = new Windlass(OWNER);
        _typed = vm.readFile("../tests/vectors/eip712.json");
        _merkle = vm.readFile("../tests/vectors/merkle.json");
        _heads = vm.readFile("../tests/vectors/heads.json");
    }

    function test_domain_isTheContracts() public view {
        vm.assertEq(vm.parseJsonAddress(_typed, ".domain.verifyingContract"), address(windlass));
        vm.assertEq(vm.parseJsonUint(_typed, ".domain.chainId"), block.chainid);
        vm.assertEq(vm.parseJsonBytes32(_typed, ".domainSeparator"), _domainSeparator());
        (, string memory name, string memory version, uint256 chainId, address verifier,,) = windlass.eip712Domain();
        vm.assertEq(bytes(name), bytes(vm.parseJsonString(_typed, ".domain.name")));
        vm.assertEq(bytes(version), bytes(vm.parseJsonString(_typed, ".domain.version")));
        vm.assertEq(chainId, block.chainid);
        vm.assertEq(verifier, address(windlass));
    }

    function test_readings_areRecorded() public {
        _registerDevices();
        uint256 seen;
        for (; _has(_typed, ".readings", seen); ++seen) {
            IWindlass.SignedReading memory reading = _readingAt(_at(".readings", seen));
            vm.assertEq(_digest(reading), vm.parseJsonBytes32(_typed, _field(".readings", seen, "digest")));
            vm.expectEmit(address(windlass));
            bytes memory packed = abi.encodePacked(uint8(2), reading.observedAt, reading.payload);
            emit IWindlass.Recorded(reading.device, reading.epoch, reading.sequence, 1, packed);
            windlass.recordSigned(_list(reading));
        }
        vm.assertEq(seen, 8);
    }

    function test_runs_areRecorded() public {
        _registerDevices();
        uint256 seen;
        for (; _has(_typed, ".runs", seen); ++seen) {
            IWindlass.Run memory run = _runAt(_at(".runs", seen));
            vm.assertEq(_digest(run), vm.parseJsonBytes32(_typed, _field(".runs", seen, "digest")));
            vm.assertEq(keccak256(run.readings), vm.parseJsonBytes32(_typed, _field(".runs", seen, "readingsHash")));
            _expectRecorded(run);
            windlass.record(_list(run));
        }
        vm.assertEq(seen, 3);
    }

    function test_leaves_areUnderTheirRoots() public {
        vm.startPrank(OWNER);
        uint256 seen;
        for (; _has(_merkle, ".trees", seen); ++seen) {
            bytes32 root = vm.parseJsonBytes32(_merkle, _field(".trees", seen, "root"));
            uint32 count = uint32(vm.parseJsonUint(_merkle, _field(".trees", seen, "count")));
            windlass.pinRoot(root, count);
            for (uint256 i = 0; i < count; ++i) {
                bytes32[] memory proof = _proofOf(seen, i);
                vm.assertTrue(windlass.verifyReading(root, _leafReadingAt(i), proof));
                vm.assertFalse(windlass.verifyReading(root, _leafReadingAt((i + 1) % 8), proof));
            }
            vm.assertFalse(_has(_merkle, string.concat(_at(".trees", seen), ".proofs"), count));
        }
        vm.assertEq(seen, 5);
    }

    function test_heads_areTheContracts() public {
        vm.startPrank(OWNER);
        uint256 seen;
        for (; _has(_heads, ".anchors", seen); ++seen) {
            _anchorAt(_at(".anchors", seen));
            bytes32 head = vm.parseJsonBytes32(_heads, _field(".anchors", seen, "head"));
            vm.assertEq(windlass.headOf(OWNER), head);
        }
        vm.assertEq(seen, 4);
    }

    function test_hostileSignatures_areSkipped() public {
        _registerDevices();
        string memory hostile = vm.readFile("../tests/vectors/hostile.json");
        uint256 seen;
        for (; _has(hostile, ".signatures", seen); ++seen) {
            IWindlass.SignedReading memory reading = _readingIn(hostile, _at(".signatures", seen));
            vm.expectEmit(address(windlass));
            emit IWindlass.Skipped(
                reading.device, reading.epoch, reading.sequence, 1, IWindlass.SkipReason.BadSignature
            );
            windlass.recordSigned(_list(reading));
            vm.assertEq(windlass.deviceOf(reading.device).lastSequence, 0, vm.toString(seen));
        }
        vm.assertEq(seen, 28);
    }

    function test_hostilePaths_areFalse() public {
        string memory hostile = vm.readFile("../tests/vectors/hostile.json");
        uint256 seen;
        for (uint256 i = 0; _has(hostile, ".paths", i); ++i) {
            string memory path = _at(".paths", i);
            uint32 count = uint32(vm.parseJsonUint(hostile, string.concat(path, ".count")));
            // A leaf that belongs to no reading cannot be asked about; a root without readings cannot be pinned.
            if (!vm.keyExistsJson(hostile, string.concat(path, ".reading")) || count == 0) continue;
            uint256 before = vm.snapshotState();
            bytes32 root = vm.parseJsonBytes32(hostile, string.concat(path, ".root"));
            vm.prank(OWNER);
            windlass.pinRoot(root, count);
            bytes32[] memory proof = vm.parseJsonBytes32Array(hostile, string.concat(path, ".proof"));
            uint256 index = vm.parseJsonUint(hostile, string.concat(path, ".reading"));
            vm.assertFalse(windlass.verifyReading(root, _leafReadingAt(index), proof));
            vm.assertTrue(vm.revertToState(before));
            ++seen;
        }
        vm.assertEq(seen, 9);
    }

    // ------------------------------------------------------------------------------------------ helpers

    function _registerDevices() private {
        for (uint256 i = 0; _has(_typed, ".devices", i); ++i) {
            bool p256 = keccak256(bytes(vm.parseJsonString(_typed, _field(".devices", i, "kind")))) == keccak256("p256");
            bytes32 device = vm.parseJsonBytes32(_typed, _field(".devices", i, "device"));
            uint256 secret = vm.parseJsonUint(_typed, _field(".devices", i, "secret"));
            IWindlass.Registration memory registration = p256 ? _p256(device, secret) : _secp(device, secret);
            vm.assertEq(registration.key, vm.parseJsonBytes(_typed, _field(".devices", i, "key")));
            vm.assertEq(
                keccak256(bytes(vm.parseJsonString(_typed, _field(".devices", i, "deviceId")))), device, "device"
            );
            _register(registration);
        }
    }

    function _anchorAt(string memory path) private {
        string memory list = string.concat(path, ".ranges");
        uint256 length;
        while (_has(_heads, list, length)) ++length;
        IWindlass.Range[] memory ranges = new IWindlass.Range[](length);
        for (uint256 i = 0; i < length; ++i) {
            ranges[i].device = vm.parseJsonBytes32(_heads, _field(list, i, "device"));
            ranges[i].first = uint64(vm.parseJsonUint(_heads, _field(list, i, "first")));
            ranges[i].last = uint64(vm.parseJsonUint(_heads, _field(list, i, "last")));
        }
        windlass.anchor(
            vm.parseJsonBytes32(_heads, string.concat(path, ".previousHead")),
            uint64(vm.parseJsonUint(_heads, string.concat(path, ".batch"))),
            vm.parseJsonBytes32(_heads, string.concat(path, ".root")),
            uint32(vm.parseJsonUint(_heads, string.concat(path, ".count"))),
            uint64(vm.parseJsonUint(_heads, string.concat(path, ".logSize"))),
            vm.parseJsonBytes32(_heads, string.concat(path, ".logRoot")),
            ranges
        );
    }

    function _readingAt(string memory path) private view returns (IWindlass.SignedReading memory) {
        return _readingIn(_typed, path);
    }

    function _readingIn(string memory json, string memory path)
        private
        pure
        returns (IWindlass.SignedReading memory reading)
    {
        reading.device = vm.parseJsonBytes32(json, string.concat(path, ".device"));
        reading.epoch = uint32(vm.parseJsonUint(json, string.concat(path, ".epoch")));
        reading.sequence = uint64(vm.parseJsonUint(json, string.concat(path, ".sequence")));
        reading.observedAt = uint64(vm.parseJsonUint(json, string.concat(path, ".observedAt")));
        reading.payload = vm.parseJsonBytes(json, string.concat(path, ".payload"));
        reading.signature = vm.parseJsonBytes(json, string.concat(path, ".signature"));
    }

    function _runAt(string memory path) private view returns (IWindlass.Run memory run) {
        run.device = vm.parseJsonBytes32(_typed, string.concat(path, ".device"));
        run.epoch = uint32(vm.parseJsonUint(_typed, string.concat(path, ".epoch")));
        run.firstSequence = uint64(vm.parseJsonUint(_typed, string.concat(path, ".firstSequence")));
        run.count = uint32(vm.parseJsonUint(_typed, string.concat(path, ".count")));
        run.readings = vm.parseJsonBytes(_typed, string.concat(path, ".readings"));
        run.signature = vm.parseJsonBytes(_typed, string.concat(path, ".signature"));
    }

    /// @dev Leaf i of every tree is reading i of the typed data.
    function _leafReadingAt(uint256 index) private view returns (IWindlass.Reading memory) {
        IWindlass.SignedReading memory reading = _readingAt(_at(".readings", index));
        return IWindlass.Reading(reading.device, reading.epoch, reading.sequence, reading.observedAt, reading.payload);
    }

    function _proofOf(uint256 tree, uint256 leaf) private view returns (bytes32[] memory) {
        string memory path = _at(string.concat(_at(".trees", tree), ".proofs"), leaf);
        // An empty list has no type of its own in JSON.
        if (!_has(_merkle, path, 0)) return new bytes32[](0);
        return vm.parseJsonBytes32Array(_merkle, path);
    }

    function _has(string memory json, string memory list, uint256 index) private view returns (bool) {
        return vm.keyExistsJson(json, _at(list, index));
    }

    function _at(string memory list, uint256 index) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(index), "]");
    }

    function _field(string memory list, uint256 index, string memory name) private pure returns (string memory) {
        return string.concat(_at(list, index), ".", name);
    }
}
