// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {AnchorLog} from "./AnchorLog.sol";

/// @title Windlass
/// @notice Device registry, reading log and anchor log in one contract, without a proxy: its code never changes.
contract Windlass is AnchorLog {
    /// @param initialOwner Becomes owner, first registrar and first submitter.
    constructor(address initialOwner) Ownable(initialOwner) EIP712("Windlass", "1") {
        _setRegistrar(initialOwner, true);
        _setSubmitter(initialOwner, true);
    }
}
