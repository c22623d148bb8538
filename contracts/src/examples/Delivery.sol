// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IWindlass} from "../IWindlass.sol";

/// @title Delivery
/// @notice An example of a contract that acts on readings: a buyer's payment goes to the carrier when a scanner has read
///         the agreed code before the deadline, else back to the buyer.
/// @dev Who is trusted, beside the code:
///      - the owner of the Windlass, its registrars and submitters: they say which key is the scanner's, and only they
///        pin roots. They can withhold a root, and so a payment; `grace` bounds how long the carrier waits for one.
///        A submitter can also pin a root over readings that nobody made;
///      - for a custodial scanner the gateway, which holds its key and tells the time. Where the device holds its key,
///        the device tells the time; no time on chain says when a reading was made;
///      - for everybody, that who knows the code was not there before the goods: the code should be known to the
///        receiver alone until the hand-over.
///      Neither party is trusted, and anyone may bring the proof.
contract Delivery {
    /// @notice What was agreed; fixed at deployment.
    /// @param scanner keccak256 of the UTF-8 id of the device that must read the code.
    /// @param codeHash keccak256 of the payload that the reading must have.
    /// @param notBefore First moment at which a reading counts, Unix milliseconds: an old scan of the code does not.
    /// @param deadline Last moment at which a reading counts, Unix milliseconds.
    /// @param grace Seconds after the deadline in which a reading made in time may still be pinned and proved.
    struct Terms {
        IWindlass windlass;
        address payable buyer;
        address payable carrier;
        bytes32 scanner;
        bytes32 codeHash;
        uint64 notBefore;
        uint64 deadline;
        uint64 grace;
    }

    /// @notice What became of the payment. It leaves `Open` once.
    enum State {
        Open,
        Paid,
        Refunded
    }

    uint256 private constant MILLISECONDS = 1000;

    IWindlass private immutable _windlass;
    address payable private immutable _buyer;
    address payable private immutable _carrier;
    bytes32 private immutable _scanner;
    bytes32 private immutable _codeHash;
    uint64 private immutable _notBefore;
    uint64 private immutable _deadline;
    uint64 private immutable _grace;
    uint256 private immutable _price;

    /// @notice Whether the payment is still here, and if not, where it went.
    State public state;

    /// @notice The reading of `sequence`, made at `observedAt` (Unix milliseconds), paid the carrier `price` wei.
    event Paid(address indexed carrier, uint256 price, uint64 sequence, uint64 observedAt);

    /// @notice Nothing was proved in time: the buyer has `price` wei back.
    event Refunded(address indexed buyer, uint256 price);

    /// @notice The terms cannot work: no payment, a zero address, no code of a Windlass, or a deadline not after the start.
    error InvalidTerms();

    /// @notice The payment has left already.
    error NotOpen(State state);

    /// @notice The reading is another device's.
    error WrongScanner(bytes32 device);

    /// @notice The payload is not the agreed code.
    error WrongCode();

    /// @notice The reading was made before the start or after the deadline (Unix milliseconds).
    error OutOfTime(uint64 observedAt);

    /// @notice The scanner is not registered, was revoked, or never had a key of the reading's epoch.
    error ScannerNotValid(bytes32 device, uint32 epoch);

    /// @notice No submitter has pinned this root.
    error RootNotPinned(bytes32 root);

    /// @notice The reading is not under the root.
    error NotProved();

    /// @notice A refund is possible from `from` on (Unix seconds).
    error TooEarly(uint256 from);

    /// @notice The receiver refused the payment; nothing has changed.
    error PaymentRefused(address receiver);

    /// @notice The ether sent along is the price.
    constructor(Terms memory agreed) payable {
        if (
            msg.value == 0 || agreed.buyer == address(0) || agreed.carrier == address(0) || agreed.scanner == 0
                || address(agreed.windlass).code.length == 0 || agreed.deadline <= agreed.notBefore
        ) revert InvalidTerms();
        _windlass = agreed.windlass;
        _buyer = agreed.buyer;
        _carrier = agreed.carrier;
        _scanner = agreed.scanner;
        _codeHash = agreed.codeHash;
        _notBefore = agreed.notBefore;
        _deadline = agreed.deadline;
        _grace = agreed.grace;
        _price = msg.value;
    }

    /// @notice Pays the carrier for a proved hand-over. Anyone may call, until the payment has left.
    /// @dev After `refundableFrom` it races with `refund`: the first of the two wins.
    /// @param root A root that a submitter pinned.
    /// @param reading The scanner's reading of the code.
    /// @param proof Its path to the root, as the proof file has it.
    function deliver(bytes32 root, IWindlass.Reading calldata reading, bytes32[] calldata proof) external {
        if (state != State.Open) revert NotOpen(state);
        if (reading.device != _scanner) revert WrongScanner(reading.device);
        if (keccak256(reading.payload) != _codeHash) revert WrongCode();
        if (reading.observedAt < _notBefore || reading.observedAt > _deadline) revert OutOfTime(reading.observedAt);
        _checkScanner(reading.device, reading.epoch);
        if (_windlass.pinnedCountOf(root) == 0) revert RootNotPinned(root);
        if (!_windlass.verifyReading(root, reading, proof)) revert NotProved();

        state = State.Paid;
        emit Paid(_carrier, _price, reading.sequence, reading.observedAt);
        _pay(_carrier);
    }

    /// @notice Gives the buyer the price back, once the deadline and the grace have passed. Anyone may call.
    function refund() external {
        if (state != State.Open) revert NotOpen(state);
        uint256 from = refundableFrom();
        // slither-disable-next-line timestamp (seconds that a proposer could shift do not matter beside the grace)
        if (block.timestamp < from) revert TooEarly(from);

        state = State.Refunded;
        emit Refunded(_buyer, _price);
        _pay(_buyer);
    }

    /// @notice The terms as deployed.
    function terms() external view returns (Terms memory) {
        return Terms(_windlass, _buyer, _carrier, _scanner, _codeHash, _notBefore, _deadline, _grace);
    }

    /// @notice First Unix second at which `refund` is possible.
    function refundableFrom() public view returns (uint256) {
        return uint256(_deadline) / MILLISECONDS + 1 + _grace;
    }

    /// @dev The state is set before, so that a receiver who calls back finds nothing left. To the price only: ether
    ///      that was forced in stays, and cannot stop the payment.
    function _pay(address payable receiver) private {
        // slither-disable-next-line low-level-calls (`transfer` would leave contracts as receivers too little gas)
        (bool accepted,) = receiver.call{value: _price}("");
        if (!accepted) revert PaymentRefused(receiver);
    }

    /// @dev A revoked scanner proves nothing any more, whenever the reading was made: from here one cannot tell
    ///      whether its key was stolen before. An earlier epoch's reading counts, since its key was rotated, not lost.
    function _checkScanner(bytes32 device, uint32 epoch) private view {
        IWindlass.Device memory known = _windlass.deviceOf(device);
        bool valid = known.kind != IWindlass.KeyKind.None && !known.revoked && epoch != 0 && epoch <= known.epoch;
        if (!valid) revert ScannerNotValid(device, epoch);
    }
}
