// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {hashRanges} from "./Ranges.sol";
import {IWindlass} from "./IWindlass.sol";
import {ReadingLog} from "./ReadingLog.sol";

/// @title AnchorLog
/// @notice One Merkle root a batch, chained per submitter through one overwritten slot.
/// @dev A slot per root would be bought anew each batch; the events and the head say the same for a tenth of it.
abstract contract AnchorLog is ReadingLog {
    /// @dev In a struct so that its place is found once. A whole word: nothing stands beside it that a write must keep.
    struct Progress {
        uint256 last;
    }

    /// @dev First word of a leaf: six words, hashed twice, can be taken neither for an inner node nor for other data.
    bytes32 private constant LEAF_TAG = keccak256("windlass.reading.v1");

    mapping(address submitter => bytes32 head) private _heads;
    mapping(bytes32 device => Progress progress) private _progress;
    mapping(bytes32 root => uint32 count) private _pinnedCounts;

    /// @inheritdoc IWindlass
    function anchor(
        bytes32 previousHead,
        uint64 batch,
        bytes32 root,
        uint32 count,
        uint64 logSize,
        bytes32 logRoot,
        Range[] calldata ranges
    ) external onlySubmitter {
        if (root == 0 || count == 0) revert EmptyBatch();
        bytes32 rangesHash = ranges.length == 0 ? bytes32(0) : hashRanges(ranges);
        bytes32 head = keccak256(abi.encode(previousHead, batch, root, count, logSize, logRoot, rangesHash));
        bytes32 current = _heads[msg.sender];
        if (current == head) return;
        if (current != previousHead) revert HeadMismatch(current);

        _heads[msg.sender] = head;
        _continueRanges(ranges);
        emit Anchored(msg.sender, batch, root, count, logSize, logRoot, head);
    }

    /// @inheritdoc IWindlass
    function pinRoot(bytes32 root, uint32 count) external onlySubmitter {
        if (root == 0 || count == 0) revert EmptyBatch();
        uint32 pinned = _pinnedCounts[root];
        if (pinned == count) return;
        if (pinned != 0) revert PinnedOtherwise(root, pinned);
        _pinnedCounts[root] = count;
        emit Pinned(msg.sender, root, count);
    }

    /// @inheritdoc IWindlass
    function headOf(address submitter) external view returns (bytes32) {
        return _heads[submitter];
    }

    /// @inheritdoc IWindlass
    function anchoredSequenceOf(bytes32 device) external view returns (uint64) {
        return uint64(_progress[device].last);
    }

    /// @inheritdoc IWindlass
    function pinnedCountOf(bytes32 root) external view returns (uint32) {
        return _pinnedCounts[root];
    }

    /// @inheritdoc IWindlass
    function verifyReading(bytes32 root, Reading calldata reading, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        uint256 count = _pinnedCounts[root];
        if (count == 0 || !_fits(proof.length, count)) return false;
        return MerkleProof.verifyCalldata(proof, root, _leafOf(reading));
    }

    function _continueRanges(Range[] calldata ranges) private {
        for (uint256 i = 0; i < ranges.length; ++i) {
            Range calldata range = ranges[i];
            (bytes32 device, uint64 first, uint64 last) = (range.device, range.first, range.last);
            Progress storage progress = _progress[device];
            uint64 expected = uint64(progress.last) + 1;
            if (first != expected || last < first) revert RangeGap(device, expected);
            progress.last = last;
        }
    }

    function _leafOf(Reading calldata reading) private view returns (bytes32) {
        bytes32 digest =
            _hashReading(reading.device, reading.epoch, reading.sequence, reading.observedAt, reading.payload);
        bytes memory leaf =
            abi.encode(LEAF_TAG, reading.device, reading.epoch, reading.sequence, reading.observedAt, digest);
        return keccak256(bytes.concat(keccak256(leaf)));
    }

    /// @dev A complete binary tree of `count` leaves has them on two levels at most: log2 rounded down and up.
    function _fits(uint256 proofLength, uint256 count) private pure returns (bool) {
        return proofLength == Math.log2(count) || proofLength == Math.log2(count, Math.Rounding.Ceil);
    }
}
