//! A reading in a run that the contract recorded in a log.

use alloy::{
    consensus::Transaction,
    primitives::{Address, B256, Log, Signature, keccak256},
};
use windlass_reading::{Domain, Reading, Run, Settlement, unpack_run, unpack_single};

use super::{Sealed, Verified, described, same};
use crate::{
    Refusal,
    event::{Recorded, SubmittedRun, run_of_log, submitted_run},
    file::{Batch, RecordedFields, SignedRun},
};

/// Version byte of a single reading, as `recordSigned` packs it.
const SINGLE: u8 = 2;

pub(super) fn verify(file: &Batch, block: &Sealed) -> Result<Verified, Refusal> {
    let (event, logs) = block.event::<Recorded>(&file.event, file.contract, "Recorded")?;
    let fields = RecordedFields { first_sequence: event.firstSequence, count: event.count };
    same("a recorded value", &file.recorded, &fields)?;
    let reading = file.reading.to_reading()?;
    same("the device", &reading.device.hash(), &event.device)?;
    same("the epoch", &reading.epoch, &event.epoch)?;
    let recorded = readings(&event, &reading)?;
    same("the reading", &Some(&reading), &recorded.get(offset(&event, &reading)?))?;
    let mut checked = vec![
        described(&reading),
        format!(
            "{} recorded it in a run of {} from sequence {}, log {} of transaction {}",
            file.contract, event.count, event.firstSequence, file.event.log, file.event.transaction
        ),
    ];
    let mut trusts = vec![format!(
        "that {} is the Windlass contract, which records only runs that the device's registered key signed",
        file.contract
    )];
    checked.extend(block.checked("receipts root", file.event.transaction));
    if let Some(signed) = &file.signed {
        signature(signed, file, &event, &logs, block)?;
        checked.push(format!(
            "the run's signature in transaction {} recovers to {} on chain {}",
            signed.transaction, signed.signer, signed.chain_id
        ));
        trusts.push(format!("that {} is the device's registered key", signed.signer));
    } else {
        trusts.push("which chain it is: without the signature the file binds no chain id".to_owned());
    }
    Ok(Verified {
        settlement: Settlement::Batch,
        tier: block.tier,
        chain_id: file.signed.as_ref().map(|signed| signed.chain_id),
        contract: file.contract,
        reading: Some(reading),
        signer: file.signed.as_ref().map(|signed| signed.signer),
        block_hash: block.hash,
        block_number: block.header.number,
        timestamp: block.header.timestamp,
        checked,
        block_trust: block.trust(),
        trusts,
    })
}

/// The recorded readings, of the device that the caller has compared.
fn readings(event: &Recorded, like: &Reading) -> Result<Vec<Reading>, Refusal> {
    let Recorded { epoch, firstSequence, count, .. } = *event;
    if event.readings.first() == Some(&SINGLE) && count == 1 {
        let (observed_at_ms, payload) = unpack_single(&event.readings).map_err(Refusal::Packing)?;
        let device = like.device.clone();
        return Ok(vec![Reading { device, epoch, sequence: firstSequence, observed_at_ms, payload }]);
    }
    unpack_run(&event.readings, &like.device, epoch, firstSequence, count).map_err(Refusal::Packing)
}

fn offset(event: &Recorded, reading: &Reading) -> Result<usize, Refusal> {
    let offset = reading.sequence.checked_sub(event.firstSequence).and_then(|offset| usize::try_from(offset).ok());
    offset.ok_or(Refusal::Differs("the sequence"))
}

/// The signature alone would bind nothing: anyone can sign for any chain id with a key of their own. So it must be
/// the one in the calldata whose run this very event answers, and the chain id the transaction's own.
fn signature(signed: &SignedRun, file: &Batch, event: &Recorded, logs: &[Log], block: &Sealed) -> Result<(), Refusal> {
    let (hash, transaction) = block.transaction(file.event.transaction, &signed.nodes)?;
    same("the transaction hash", &signed.transaction, &hash)?;
    same("the chain id", &Some(signed.chain_id), &transaction.chain_id())?;
    same("the called contract", &Some(file.contract), &transaction.to())?;
    let log = usize::try_from(file.event.log).map_err(|_| Refusal::Event("Recorded"))?;
    let run =
        submitted_run(transaction.input(), run_of_log(logs, log, file.contract)).ok_or(Refusal::Call("record"))?;
    same("the submitted run", &run.readings, &event.readings)?;
    same("the run's signature", &signed.signature, &run.signature)?;
    same("the run's signer", &Some(signed.signer), &recovered(&run, event, signed.chain_id, file.contract))
}

/// Who signed `run`, with the sequence and epoch that the event reports for it.
pub(crate) fn recovered(run: &SubmittedRun, event: &Recorded, chain_id: u64, contract: Address) -> Option<Address> {
    let submitted = (run.device, run.epoch, run.firstSequence, run.count);
    if submitted != (event.device, event.epoch, event.firstSequence, event.count) {
        return None;
    }
    let digest = Domain::new(chain_id, contract).run(&Run {
        device: run.device,
        epoch: run.epoch,
        firstSequence: run.firstSequence,
        count: run.count,
        readingsHash: keccak256(&run.readings),
    });
    recover(&run.signature, digest)
}

fn recover(signature: &[u8], digest: B256) -> Option<Address> {
    let signature = match signature.len() {
        // EIP-2098: the parity in the top bit of s.
        64 => Signature::from_erc2098(signature),
        _ => Signature::from_raw(signature).ok()?,
    };
    signature.recover_address_from_prehash(&digest).ok()
}
