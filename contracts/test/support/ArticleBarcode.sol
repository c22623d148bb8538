// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// @notice What the article's contract does, written anew to be measured beside ours: owner and creation time in
///         storage, the caller compared with a stored owner, refusal as a string.
contract ArticleBarcode {
    address public owner;
    uint256 public creationTime;
    uint256 private _value;

    constructor() {
        owner = msg.sender;
        creationTime = block.timestamp;
    }

    function set(uint256 value) external {
        require(msg.sender == owner, "only the owner may set");
        _value = value;
    }

    function get() external view returns (uint256) {
        return _value;
    }
}
