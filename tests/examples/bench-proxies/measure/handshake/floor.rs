//! The arithmetic that no server can leave out of this handshake, by the same OpenSSL: one RSA signature, one key of the DH
//! group, one agreement, and three RSA verifications (leaf by SubCA, SubCA by RootCA, CertificateVerify by leaf).

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::time::{ClockId, clock_gettime};
use openssl::{
    bn::BigNum,
    dh::Dh,
    hash::MessageDigest,
    pkey::{PKey, Params, Private, Public},
    rsa::Padding,
    sign::{Signer, Verifier},
    x509::X509,
};

use crate::{
    ground::Ground,
    isolation::{SERVER_CORE, stay_on},
};

/// As long as the parameters that a ServerKeyExchange signs.
const SIGNED: [u8; 580] = [7; 580];

pub(crate) struct Floor {
    server: PKey<Private>,
    leaf: X509,
    leaf_key: PKey<Public>,
    sub: X509,
    sub_key: PKey<Public>,
    root_key: PKey<Public>,
    group: Dh<Params>,
    peer: BigNum,
    signature: Vec<u8>,
}

impl Floor {
    pub(crate) fn new(ground: &Ground) -> Result<Self> {
        let identity = ground.identity()?;
        let certificate = |path| -> Result<X509> { Ok(X509::from_pem(&fs::read(path)?)?) };
        let (leaf, sub) = (certificate(&identity.cert)?, certificate(&ground.pki.sub)?);
        let group = || -> Result<Dh<Params>> { Ok(Dh::params_from_pem(&fs::read(ground.group())?)?) };
        let client = PKey::private_key_from_pem(&fs::read(&identity.key)?)?;
        Ok(Self {
            server: PKey::private_key_from_pem(&fs::read(&ground.pki.server.key)?)?,
            leaf_key: leaf.public_key()?,
            sub_key: sub.public_key()?,
            root_key: certificate(&ground.pki.root)?.public_key()?,
            peer: group()?.generate_key()?.public_key().to_owned()?,
            group: group()?,
            signature: sign(&client)?,
            leaf,
            sub,
        })
    }

    /// The CPU time of one handshake's arithmetic, over as many as fit, on the servers' core.
    pub(crate) fn measure(&self, turn: Duration) -> Result<Duration> {
        thread::scope(|scope| {
            let measuring = scope.spawn(|| -> Result<Duration> {
                stay_on(SERVER_CORE)?;
                let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
                let (begun, mut count) = (now()?, 0);
                loop {
                    self.once()?;
                    count += 1;
                    let used = now()?.saturating_sub(begun);
                    if used > turn {
                        return Ok(used / count);
                    }
                }
            });
            measuring
                .join()
                .map_err(|_| anyhow!("the arithmetic panicked"))?
                .context("the arithmetic")
        })
    }

    fn once(&self) -> Result<()> {
        sign(&self.server)?;
        let group = Dh::from_pqg(
            self.group.prime_p().to_owned()?,
            None,
            self.group.generator().to_owned()?,
        )?;
        let secret = group.generate_key()?.compute_key(&self.peer)?;
        let mut verifier = Verifier::new(MessageDigest::sha256(), &self.leaf_key)?;
        verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
        let sound = self.leaf.verify(&self.sub_key)?
            && self.sub.verify(&self.root_key)?
            && verifier.verify_oneshot(&self.signature, &SIGNED)?;
        ensure!(sound && !secret.is_empty(), "the arithmetic is wrong");
        Ok(())
    }
}

fn sign(key: &PKey<Private>) -> Result<Vec<u8>> {
    let mut signer = Signer::new(MessageDigest::sha256(), key)?;
    signer.set_rsa_padding(Padding::PKCS1_PSS)?;
    Ok(signer.sign_oneshot_to_vec(&SIGNED)?)
}
