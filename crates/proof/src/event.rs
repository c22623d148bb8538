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
    function set(uint256 value) external;
}

/// The event `E` in `log`, when `contract` emitted it.
pub(crate) fn emitted<E: SolEvent>(log: &Log, contract: Address) -> Option<E> {
    if log.address != contract {
        return None;
    }
    E::decode_log_data_validate(&log.data).ok()
}

/// Which run of a `record` call the log at `index` answers: each run emits one `Recorded` or one `Skipped`, in order.
pub(crate) fn run_of_log(logs: &[Log], index: usize, contract: Address) -> usize {
    let answers = |log: &&Log| {
        let topic = log.topics().first();
        log.address == contract && (topic == Some(&Recorded::SIGNATURE_HASH) || topic == Some(&Skipped::SIGNATURE_HASH))
    };
    logs.iter().take(index).filter(answers).count()
}

/// The run at `index` in the calldata of `record`.
///
/// Calldata may point to the same bytes thousands of times, so a small file could turn into gigabytes: decoding has a
/// memory limit, and only the wanted run is copied.
pub(crate) fn submitted_run(calldata: &Bytes, index: usize) -> Option<SubmittedRun> {
    let arguments = calldata.strip_prefix(&recordCall::SELECTOR)?;
    let limited = abi::AbiDecoderConfig::new().memory_limit(DECODED_BYTES);
    let (runs,) = abi::decode_params_with_config::<<recordCall as SolCall>::Token<'_>>(arguments, limited).ok()?;
    let run = runs.0.into_iter().nth(index)?;
    SubmittedRun::type_check(&run).ok()?;
    Some(SubmittedRun::detokenize(run))
}
