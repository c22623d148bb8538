//! A reading in a run that the contract recorded in a log.

use alloy::{
    consensus::Transaction,
    primitives::{Address, B256, Bytes, Log, Signature, keccak256},
};
use windlass_reading::{Domain, PublicKey, Reading, Run, Settlement, SignedReading, unpack_run, unpack_single};

use super::{Sealed, Verified, described, is_registered_key, same};
use crate::{
    Refusal,
    event::{Recorded, SubmittedReading, run_of_log, submitted_reading, submitted_run},
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
            "the signature in transaction {} is by key {} for chain {}",
            signed.transaction, signed.signer, signed.chain_id
        ));
        trusts.push(is_registered_key(signed.signer));
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
        registration: None,
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
    let run = Submitted::find(transaction.input(), run_of_log(logs, log, file.contract), event)?;
    same("the run's signature", &signed.signature, &run.signature)?;
    let digest = (run.digest)(&Domain::new(signed.chain_id, file.contract));
    if is_signed(&signed.signer, digest, &run.signature) { Ok(()) } else { Err(Refusal::Differs("the run's signer")) }
}

/// What a call submitted, and an event then recorded: a run, or one reading.
pub(crate) struct Submitted {
    /// What was signed, in a domain.
    pub(crate) digest: Box<dyn Fn(&Domain) -> B256>,
    pub(crate) signature: Bytes,
}

impl Submitted {
    /// The item at `index` of the call, if it is what `event` reports.
    pub(crate) fn find(calldata: &Bytes, index: usize, event: &Recorded) -> Result<Self, Refusal> {
        if event.readings.first() == Some(&SINGLE) {
            Self::reading(calldata, index, event)
        } else {
            Self::run(calldata, index, event)
        }
    }

    fn run(calldata: &Bytes, index: usize, event: &Recorded) -> Result<Self, Refusal> {
        let run = submitted_run(calldata, index).ok_or(Refusal::Call("record"))?;
        same("the submitted run", &run.readings, &event.readings)?;
        let submitted = (run.device, run.epoch, run.firstSequence, run.count);
        same("the submitted run", &submitted, &(event.device, event.epoch, event.firstSequence, event.count))?;
        let signed = Run {
            device: run.device,
            epoch: run.epoch,
            firstSequence: run.firstSequence,
            count: run.count,
            readingsHash: keccak256(&run.readings),
        };
        Ok(Self { digest: Box::new(move |domain| domain.run(&signed)), signature: run.signature })
    }

    fn reading(calldata: &Bytes, index: usize, event: &Recorded) -> Result<Self, Refusal> {
        let SubmittedReading { device, epoch, sequence, observedAt, payload, signature } =
            submitted_reading(calldata, index).ok_or(Refusal::Call("recordSigned"))?;
        let submitted = (device, epoch, sequence, 1);
        same("the submitted reading", &submitted, &(event.device, event.epoch, event.firstSequence, event.count))?;
        let recorded = unpack_single(&event.readings).map_err(Refusal::Packing)?;
        same("the submitted reading", &(observedAt, payload.to_vec()), &recorded)?;
        let signed = SignedReading { device, epoch, sequence, observedAt, payload };
        Ok(Self { digest: Box::new(move |domain| domain.signed(&signed)), signature })
    }
}

/// Whether the contract takes `signature` as this key's. It refuses a high s, and so does this.
pub(crate) fn is_signed(key: &PublicKey, digest: B256, signature: &[u8]) -> bool {
    match signature.len() {
        64 => key.signed(digest, signature),
        65 => key.address().is_some_and(|signer| recovered(digest, signature) == Some(signer)),
        _ => false,
    }
}

/// Who signed, by the long form of a signature with an address's key.
fn recovered(digest: B256, signature: &[u8]) -> Option<Address> {
    Signature::from_raw(signature).ok()?.recover_address_from_prehash(&digest).ok()
}
