// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// @notice The least that a transaction with this calldata costs, whatever its code does.
library Gas {
    uint256 private constant TRANSACTION = 21_000;
    uint256 private constant FLOOR_PER_TOKEN = 10;
    uint256 private constant TOKENS_PER_NON_ZERO_BYTE = 4;

    /// @dev Source: EIP-7623.
    function floorOf(bytes memory data) internal pure returns (uint256) {
        uint256 tokens;
        for (uint256 i = 0; i < data.length; ++i) {
            tokens += data[i] == 0 ? 1 : TOKENS_PER_NON_ZERO_BYTE;
        }
        return TRANSACTION + FLOOR_PER_TOKEN * tokens;
    }
}
