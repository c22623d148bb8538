// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// @title Barcode
/// @notice One stored number that only its deployer may set: the contract of the article, one per device.
/// @dev Owner and creation time are immutables, so that `set` reads no slot to know its caller.
contract Barcode {
    /// @notice The account that deployed the contract; the only one that may call `set`.
    address public immutable owner;

    /// @notice Block timestamp of the deployment, in Unix seconds.
    uint256 public immutable creationTime;

    uint256 private _value;

    /// @notice The caller does not own this contract.
    error NotOwner(address caller);

    constructor() {
        owner = msg.sender;
        creationTime = block.timestamp;
    }

    /// @notice Stores a barcode, replacing the one before.
    /// @param value The barcode as a number; leading zeros are not part of it.
    function set(uint256 value) external {
        if (msg.sender != owner) revert NotOwner(msg.sender);
        // slither-disable-next-line events-maths (the article's interface has no event; the transaction is the record)
        _value = value;
    }

    /// @notice The barcode stored last, 0 before the first `set`.
    function get() external view returns (uint256) {
        return _value;
    }
}
