//! A reading under an anchored Merkle root.

use windlass_reading::{Domain, Settlement, leaf};

use super::{Sealed, Verified, described, is_registered_key, same};
use crate::{
    Refusal,
    event::Anchored,
    file::{Anchor, AnchoredFields},
    merkle::verify_path,
};

pub(super) fn verify(file: &Anchor, block: &Sealed) -> Result<Verified, Refusal> {
    let (event, _) = block.event::<Anchored>(&file.event, file.contract, "Anchored")?;
    same("an anchored value", &file.anchored, &AnchoredFields::from(&event))?;
    let reading = file.reading.to_reading()?;
    // The digest holds chain id and contract, so a reading of another chain has another leaf.
    let digest = Domain::new(file.chain_id, file.contract).reading(&reading);
    let leaf = leaf(&reading, digest);
    if !verify_path(event.root, leaf, &file.merkle_path, event.count) {
        return Err(Refusal::MerklePath);
    }
    let mut checked = vec![
        described(&reading),
        format!("its digest for chain {} and contract {} gives leaf {leaf}", file.chain_id, file.contract),
        format!("the leaf is one of {} under root {} ({} steps)", event.count, event.root, file.merkle_path.len()),
        format!(
            "{} emitted Anchored with that root: batch {} of submitter {}, log {} of transaction {}",
            file.contract, event.batch, event.submitter, file.event.log, file.event.transaction
        ),
    ];
    let mut trusts =
        vec![format!("that {} is the Windlass contract and its submitters are honest gateways", file.contract)];
    if let Some(signed) = &file.signed {
        if !signed.signer.signed(digest, &signed.signature) {
            return Err(Refusal::Differs("the device's signature"));
        }
        checked.push(format!("the device's key {} signed exactly this reading", signed.signer));
        trusts.push(is_registered_key(signed.signer));
    } else {
        trusts.push("the gateway, that the device sent this payload, at that time, under that sequence".to_owned());
    }
    checked.extend(block.checked("receipts root", file.event.transaction));
    Ok(Verified {
        settlement: Settlement::Anchor,
        tier: block.tier,
        chain_id: Some(file.chain_id),
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

impl From<&Anchored> for AnchoredFields {
    fn from(event: &Anchored) -> Self {
        Self {
            submitter: event.submitter,
            batch: event.batch,
            root: event.root,
            count: event.count,
            log_size: event.logSize,
            log_root: event.logRoot,
            head: event.head,
        }
    }
}
