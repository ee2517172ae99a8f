//! Answers of registries, read within bounds of time and size.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::StatusCode;
use reqwest::header::{AsHeaderName, RETRY_AFTER};
use serde::Deserialize;

use crate::error::{Attempt, Error, Said};
use crate::retry::retry_after;
use crate::{Limits, one_line};

/// Bytes of a body that says what went wrong.
const MAX_SAID: usize = 64 << 10;

/// The beginning of an answer; its body is yet to be read.
pub(crate) struct Answer {
    pub(crate) attempt: Attempt,
    response: reqwest::Response,
    /// Without more data.
    stall: Duration,
    /// For bodies that are kept in memory.
    total: Duration,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<Item>,
    /// As realms have it.
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Answer {
    /// Waits for the beginning of an answer.
    pub(crate) async fn of(
        attempt: Attempt,
        limits: &Limits,
        sent: impl Future<Output = reqwest::Result<reqwest::Response>>,
    ) -> Result<Self, Error> {
        match tokio::time::timeout(limits.answer, sent).await {
            Err(_) => Err(Error::Timeout { attempt, what: "answer", limit: limits.answer }),
            Ok(Err(error)) => Err(Error::network(&attempt, &error)),
            Ok(Ok(response)) => Ok(Self::new(attempt, response, limits)),
        }
    }

    fn new(attempt: Attempt, response: reqwest::Response, limits: &Limits) -> Self {
        Self { attempt, response, stall: limits.stall, total: limits.total }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn url(&self) -> &reqwest::Url {
        self.response.url()
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// All values of a header.
    pub(crate) fn headers(&self, name: impl AsHeaderName) -> Vec<Vec<u8>> {
        self.response.headers().get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    /// The length of the body, if it was announced.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(reqwest::header::CONTENT_LENGTH)?.parse().ok()
    }

    /// The next bytes of the body; none at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match tokio::time::timeout(self.stall, self.response.chunk()).await {
            Err(_) => {
                let attempt = self.attempt.clone();
                Err(Error::Timeout { attempt, what: "more data", limit: self.stall })
            }
            Ok(Err(error)) => Err(Error::network(&self.attempt, &error)),
            Ok(Ok(chunk)) => Ok(chunk),
        }
    }

    /// The whole body, of no more than `max` bytes.
    pub(crate) async fn bytes(self, max: u64) -> Result<Bytes, Error> {
        let (attempt, limit) = (self.attempt.clone(), self.total);
        let read = tokio::time::timeout(limit, self.read(max)).await;
        read.unwrap_or(Err(Error::Timeout { attempt, what: "whole answer", limit }))
    }

    async fn read(mut self, max: u64) -> Result<Bytes, Error> {
        if let Some(length) = self.length().filter(|length| *length > max) {
            let reason = format!("the answer has {length} bytes, more than the {max} that are allowed");
            return Err(Error::invalid(&self.attempt, reason));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if (body.len() + chunk.len()) as u64 > max {
                let reason = format!("the answer has more than the {max} bytes that are allowed");
                return Err(Error::invalid(&self.attempt, reason));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The answer, if it is a success.
    pub(crate) async fn checked(self) -> Result<Self, Error> {
        if self.status().is_success() {
            return Ok(self);
        }
        let attempt = self.attempt.clone();
        Err(Error::Status { attempt, said: Box::new(self.said().await) })
    }

    /// The error of a host that somebody named who may not ask it themselves: they are told no more than
    /// the status.
    pub(crate) fn silent(self) -> Error {
        let said = Said { status: self.status().as_u16(), ..Said::default() };
        Error::Status { attempt: self.attempt, said: Box::new(said) }
    }

    /// What a registry says with an error.
    pub(crate) async fn said(mut self) -> Said {
        let request_id =
            ["x-request-id", "docker-request-id", "x-amzn-requestid", "x-ms-correlation-request-id"]
                .iter()
                .find_map(|name| self.header(*name).map(one_line));
        let retry_after = self.header(RETRY_AFTER).and_then(retry_after);
        let status = self.status().as_u16();
        let mut body = Vec::new();
        let limit = self.stall;
        let read = async {
            while let Ok(Some(chunk)) = self.chunk().await {
                let left = MAX_SAID - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(left)]);
                if chunk.len() >= left {
                    break;
                }
            }
        };
        // What cannot be read of it is not worth another error.
        let _ = tokio::time::timeout(limit, read).await;
        Said { status, message: message_of(&body), request_id, retry_after }
    }
}

/// The message in a body: that of the distribution specification, or the text itself if it is short.
fn message_of(body: &[u8]) -> String {
    if let Ok(errors) = serde_json::from_slice::<Errors>(body) {
        let text = |item: &Item| match (item.code.as_str(), item.message.as_str()) {
            ("", message) => message.to_owned(),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        };
        let found: Vec<String> = errors.errors.iter().take(5).map(text).collect();
        let found =
            if found.is_empty() { errors.details.or(errors.message).into_iter().collect() } else { found };
        return one_line(&found.join("; "));
    }
    // Pages for browsers tell nothing more than the status does.
    let text = str::from_utf8(body).unwrap_or_default().trim();
    if text.len() > 200 || text.starts_with('<') { String::new() } else { one_line(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        for (body, expect) in [
            (r#"{"errors":[{"code":"DENIED","message":"no\nway"},{"message":"b"}]}"#, "DENIED: no way; b"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            ("{}", ""),
            ("[1]", "[1]"),
            ("plain text\r\n", "plain text"),
            ("<html>", ""),
            ("", ""),
        ] {
            assert_eq!(message_of(body.as_bytes()), expect, "{body}");
        }
        assert_eq!(message_of(&[0xff; 10]), "");
        assert_eq!(message_of(&[b'x'; 1000]), "");
    }
}
