//! An agent in this process.

use std::io;
use std::sync::Arc;

use buildkit_util_appcontext::{TaskGuard, spawn};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::key::Key;
use crate::wire::{
    self, FAILURE, IDENTITIES_ANSWER, REQUEST_IDENTITIES, SIGN_REQUEST, SIGN_RESPONSE, receive, send,
    take_number, take_string,
};

/// Keys that can be listed and that sign; nothing else is done with them.
pub(crate) struct Keyring {
    keys: Vec<Key>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.keys.len()).finish()
    }
}

impl Keyring {
    /// An agent of these keys; repetitions are left out.
    pub(crate) fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        let mut list: Vec<Key> = Vec::new();
        for key in keys {
            if list.iter().all(|other| other.blob != key.blob) {
                list.push(key);
            }
        }
        Self { keys: list }
    }

    /// Answers requests until the stream ends.
    pub(crate) fn serve<T>(self: Arc<Self>, mut stream: T) -> TaskGuard<()>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        spawn(async move {
            // Whatever ends the exchange closes the connection, which is all that there is to tell.
            let _: io::Result<()> = async {
                loop {
                    let request = receive(&mut stream).await?;
                    let answer = self.answer(&request);
                    send(&mut stream, answer.as_deref().unwrap_or(FAILURE)).await?;
                }
            }
            .await;
        })
    }

    /// The answer to a request; none is a refusal.
    fn answer(&self, request: &[u8]) -> Option<Vec<u8>> {
        let (kind, mut body) = request.split_first()?;
        match *kind {
            REQUEST_IDENTITIES => {
                let mut answer = vec![IDENTITIES_ANSWER];
                wire::number(&mut answer, self.keys.len());
                for key in &self.keys {
                    wire::string(&mut answer, &key.blob);
                    wire::string(&mut answer, key.comment.as_bytes());
                }
                Some(answer)
            }
            SIGN_REQUEST => {
                let blob = take_string(&mut body)?;
                let data = take_string(&mut body)?;
                let flags = take_number(&mut body)?;
                let signature = self.keys.iter().find(|key| key.blob == blob)?.sign(data, flags)?;
                let mut answer = vec![SIGN_RESPONSE];
                wire::string(&mut answer, &signature);
                Some(answer)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_are_refused() {
        let ring = Keyring::new([]);
        assert_eq!(ring.answer(&[REQUEST_IDENTITIES]), Some(vec![IDENTITIES_ANSWER, 0, 0, 0, 0]));
        // Nothing, an unknown key, a cut request, and requests to add, remove, lock and extend.
        let unknown = [SIGN_REQUEST, 0, 0, 0, 1, 7, 0, 0, 0, 1, 7, 0, 0, 0, 0];
        for request in [&[][..], &unknown, &unknown[..7], &[17], &[18], &[19], &[22], &[25], &[27]] {
            assert_eq!(ring.answer(request), None, "{request:?}");
        }
    }
}
