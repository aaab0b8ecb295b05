//! Names of services that somebody else chose: only addresses outside are connected to.

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use firebackup_model::address::is_public;

/// The resolver of this machine, without what leads inside. The client connects to what it is given here, so that a name
/// that answers differently the next time gains nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublicNames;

impl ResolveDns for PublicNames {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await.map_err(ResolveDnsError::new)?;
            let public: Vec<_> = found.map(|address| address.ip()).filter(|ip| is_public(*ip)).collect();
            match public.is_empty() {
                true => Err(ResolveDnsError::new("it leads to no address outside")),
                false => Ok(public),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_of_this_machine_has_no_address() {
        assert!(PublicNames.resolve_dns("localhost").await.is_err());
    }
}
