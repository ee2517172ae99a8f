use std::io::Write;

use buildkit_session::MAX_MESSAGE_SIZE;
use buildkit_session_pb::content::ReadContentRequest;
use buildkit_session_pb::content::content_client::ContentClient;
use buildkit_util_cachedigest::{Digest, Digester};

use crate::{Client, Error, Result};

impl Client {
    /// Writes a blob that the daemon keeps to `sink`, and gives its size in bytes. The bytes are verified when all of
    /// them were written, if the digest is a SHA-256.
    ///
    /// # Errors
    /// When the daemon has no such blob or cannot be asked, `sink` fails, or the bytes are not those of the digest.
    pub async fn read_blob(&self, digest: &Digest, sink: &mut (dyn Write + Send)) -> Result<u64> {
        let failed = |status: tonic::Status| Error::request("failed to read the blob", &status);
        let mut content = ContentClient::new(self.channel())
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE);
        let request = ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 };
        let mut parts = content.read(request).await.map_err(failed)?.into_inner();
        let (mut digester, mut size) = (Digester::new(), 0);
        while let Some(part) = parts.message().await.map_err(failed)? {
            digester.update(&part.data);
            size += part.data.len() as u64;
            sink.write_all(&part.data).map_err(Error::Write)?;
        }
        sink.flush().map_err(Error::Write)?;
        let found = digester.finish();
        if digest.algorithm() == "sha256" && found != *digest {
            return Err(Error::response("blob", format!("it is {found}, and {digest} was asked for")));
        }
        Ok(size)
    }
}
