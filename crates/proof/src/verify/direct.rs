//! A number stored by a transaction of the device's own account.

use alloy::{
    consensus::{Eip658Value, Transaction, TxReceipt, transaction::SignerRecoverable},
    sol_types::SolCall,
};
use windlass_reading::Settlement;

use super::{Sealed, Verified, same};
use crate::{Refusal, event::setCall, file::Direct};

/// Selector and one word.
const CALLDATA_BYTES: usize = 36;

pub(super) fn verify(file: &Direct, block: &Sealed) -> Result<Verified, Refusal> {
    let (hash, transaction) = block.transaction(file.transaction.index, &file.transaction.nodes)?;
    same("the transaction hash", &file.transaction.hash, &hash)?;
    let signer = transaction.recover_signer().map_err(|_| Refusal::Transaction)?;
    same("the signer", &file.signer, &signer)?;
    same("the nonce", &file.nonce, &transaction.nonce())?;
    same("the contract", &Some(file.contract), &transaction.to())?;
    same("the chain id", &file.chain_id, &transaction.chain_id().ok_or(Refusal::Unbound)?)?;
    let calldata = transaction.input();
    let call = setCall::abi_decode(calldata).ok().filter(|_| calldata.len() == CALLDATA_BYTES);
    let value = call.ok_or(Refusal::Call("set(uint256)"))?.value;
    same("the value", &file.value, &value.to_string())?;
    let receipt = block.receipt(file.transaction.index, &file.receipt)?;
    if receipt.as_receipt().map(TxReceipt::status_or_post_state) != Some(Eip658Value::Eip658(true)) {
        return Err(Refusal::Failed);
    }
    let mut checked = vec![
        format!("account {signer} signed transaction {hash}, nonce {}, for chain {}", file.nonce, file.chain_id),
        format!("it called set({value}) on {} and succeeded", file.contract),
    ];
    checked.extend(
        block.checked("transactions root and, with its receipt, under the receipts root", file.transaction.index),
    );
    Ok(Verified {
        settlement: Settlement::Direct,
        tier: block.tier,
        chain_id: Some(file.chain_id),
        contract: file.contract,
        reading: None,
        signer: Some(signer.into()),
        block_hash: block.hash,
        block_number: block.header.number,
        timestamp: block.header.timestamp,
        registration: None,
        checked,
        block_trust: block.trust(),
        trusts: vec![
            format!("that {} is the device's Barcode contract and {signer} the device's account", file.contract),
            "the gateway for the reading's sequence, its time and any leading zeros: these are not on chain".to_owned(),
        ],
    })
}
