//! The few contract signatures that a proof needs, and how calldata is read without copying it.
#![allow(missing_docs)]

use alloy::{
    primitives::{Address, Bytes, Log},
    sol,
    sol_types::{SolCall, SolEvent, SolType, abi},
};

/// More than any real transaction decodes to: its data is at most 128 KiB.
const DECODED_BYTES: usize = 16 << 20;

sol! {
    #[derive(Debug, PartialEq, Eq)]
    event Anchored(address indexed submitter, uint64 indexed batch, bytes32 indexed root, uint32 count, uint64 logSize, bytes32 logRoot, bytes32 head);

    #[derive(Debug, PartialEq, Eq)]
    event Recorded(bytes32 indexed device, uint32 epoch, uint64 firstSequence, uint32 count, bytes readings);

    /// `kind` is an enum of the contract, one byte on the wire.
    #[derive(Debug, PartialEq, Eq)]
    event Registered(bytes32 indexed device, uint32 indexed epoch, uint8 kind, bytes key);

    /// `reason` is an enum of the contract, one byte on the wire.
    #[derive(Debug, PartialEq, Eq)]
    event Skipped(bytes32 indexed device, uint32 epoch, uint64 firstSequence, uint32 count, uint8 reason);

    #[derive(Debug, PartialEq, Eq)]
    struct SubmittedRun {
        bytes32 device;
        uint32 epoch;
        uint64 firstSequence;
        uint32 count;
        bytes readings;
        bytes signature;
    }

    #[derive(Debug, PartialEq, Eq)]
    function record(SubmittedRun[] runs) external;

    #[derive(Debug, PartialEq, Eq)]
    struct SubmittedReading {
        bytes32 device;
        uint32 epoch;
        uint64 sequence;
        uint64 observedAt;
        bytes payload;
        bytes signature;
    }

    #[derive(Debug, PartialEq, Eq)]
    function recordSigned(SubmittedReading[] readings) external;

    #[derive(Debug, PartialEq, Eq)]
    function set(uint256 value) external;
}

/// The event `E` in `log`, when `contract` emitted it.
pub(crate) fn emitted<E: SolEvent>(log: &Log, contract: Address) -> Option<E> {
    if log.address != contract {
        return None;
    }
    E::decode_log_data_validate(&log.data).ok()
}

/// Which run of a `record` or `recordSigned` call the log at `index` answers: each run emits one `Recorded` or one `Skipped`, in order.
pub(crate) fn run_of_log(logs: &[Log], index: usize, contract: Address) -> usize {
    let answers = |log: &&Log| {
        let topic = log.topics().first();
        log.address == contract && (topic == Some(&Recorded::SIGNATURE_HASH) || topic == Some(&Skipped::SIGNATURE_HASH))
    };
    logs.iter().take(index).filter(answers).count()
}

/// The run at `index` in the calldata of `record`.
pub(crate) fn submitted_run(calldata: &Bytes, index: usize) -> Option<SubmittedRun> {
    item::<recordCall, SubmittedRun>(calldata, index)
}

/// The reading at `index` in the calldata of `recordSigned`.
pub(crate) fn submitted_reading(calldata: &Bytes, index: usize) -> Option<SubmittedReading> {
    item::<recordSignedCall, SubmittedReading>(calldata, index)
}

/// The item at `index` of the list that a call of `C` takes.
///
/// Calldata may point to the same bytes thousands of times, so a small file could turn into gigabytes: decoding has a
/// memory limit, and only the wanted item is copied.
fn item<'a, C, T>(calldata: &'a Bytes, index: usize) -> Option<T>
where
    T: SolType<RustType = T>,
    C: SolCall<Token<'a> = (abi::token::DynSeqToken<T::Token<'a>>,)>,
{
    let arguments = calldata.strip_prefix(&C::SELECTOR)?;
    let limited = abi::AbiDecoderConfig::new().memory_limit(DECODED_BYTES);
    let (items,) = abi::decode_params_with_config::<C::Token<'a>>(arguments, limited).ok()?;
    let item = items.0.into_iter().nth(index)?;
    T::type_check(&item).ok()?;
    Some(T::detokenize(item))
}
