//! Whether the contract registered the key that signed, shown by a second block.

use alloy::primitives::B256;
use windlass_reading::PublicKey;

use super::{Sealed, Tier, Verified, same};
use crate::{Refusal, event::Registered, file::Registration};

/// Adds to `verified` what the registration shows. It speaks of a signer, so there must be one.
pub(super) fn check(
    registration: &Registration,
    trusted: Option<B256>,
    verified: &mut Verified,
) -> Result<(), Refusal> {
    let (Some(signer), Some(reading)) = (verified.signer, &verified.reading) else {
        return Err(Refusal::NoSigner);
    };
    let block = Sealed::open(&registration.block, trusted)?;
    let (event, _) = block.event::<Registered>(&registration.event, verified.contract, "Registered")?;
    same("the registered device", &reading.device.hash(), &event.device)?;
    same("the registered epoch", &reading.epoch, &event.epoch)?;
    same("the registered key", &PublicKey::from_bytes(&event.key), &Ok(signer))?;
    verified.checked.push(format!(
        "{} registered {signer} as the key of {} for epoch {}, in block {} {}",
        verified.contract, reading.device, reading.epoch, block.header.number, block.hash
    ));
    verified.checked.extend(block.checked("receipts root", registration.event.transaction));
    let unproved = super::is_registered_key(signer);
    verified.trusts.retain(|trust| *trust != unproved);
    verified.trusts.push(match block.tier {
        Tier::Mathematics => format!(
            "that block {} is in the chain too: no trusted hash of it was given, and a made-up block would pass",
            block.hash
        ),
        Tier::BlockHash => "whoever gave the hash of the registration's block".to_owned(),
    });
    verified.registration = Some((block.header.number, block.hash));
    Ok(())
}
