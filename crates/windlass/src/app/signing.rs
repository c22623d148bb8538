//! The chain side asks the device actors for signatures.

use alloy::primitives::{B256, Signature};
use async_trait::async_trait;
use windlass_chain::Signatory;
use windlass_device::Directory;
use windlass_reading::DeviceId;

/// Hands digests to device actors.
#[derive(Debug)]
pub(super) struct Desk {
    directory: Directory,
}

impl Desk {
    pub(super) fn new(directory: Directory) -> Self {
        Self { directory }
    }
}

#[async_trait]
impl Signatory for Desk {
    async fn sign(&self, device: &DeviceId, epoch: Option<u32>, digest: B256) -> Result<Signature, String> {
        self.directory.sign(device, epoch, digest).await.map_err(|e| e.to_string())
    }
}
