//! Listings, page by page. A page that fails is asked for again; a listing that cannot be completed
//! is an error.

use std::ops::ControlFlow;

use aws_sdk_s3::types::EncodingType;

use super::S3Client;
use super::error::{Class, S3Result};
use super::failure::{Failure, failure};
use super::objects::{Listed, ListedPage, unquoted};
use super::record::Operation;

impl S3Client {
    /// Calls `page` for each page of the keys that begin with `prefix`, until it breaks. With
    /// `delimiter`, what lies below the next slash is told as one prefix. With `start_after`, only
    /// keys after that one.
    pub async fn list(
        &self,
        prefix: &str,
        delimiter: bool,
        start_after: Option<&str>,
        page: &mut (dyn FnMut(ListedPage) -> ControlFlow<()> + Send),
    ) -> S3Result<()> {
        let mut pages = self.pages(prefix, delimiter);
        pages.next = Some(Start { after: start_after.map(str::to_owned), token: None });
        while let Some(listed) = pages.next().await? {
            if page(listed).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The same, for who takes page after page.
    pub fn pages(&self, prefix: &str, delimiter: bool) -> Pages {
        let next = Some(Start { after: None, token: None });
        Pages { client: self.clone(), prefix: prefix.to_owned(), delimiter, most: None, next }
    }

    async fn list_page(
        &self,
        prefix: &str,
        delimiter: bool,
        most: Option<i32>,
        start: &Start,
    ) -> S3Result<(ListedPage, Option<Start>)> {
        self.call(Operation::ListObjects, "", false, |sdk| async move {
            let request = sdk
                .list_objects_v2()
                .bucket(self.bucket())
                .set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()))
                .set_delimiter(delimiter.then(|| "/".to_owned()))
                .set_start_after(start.after.clone())
                .set_continuation_token(start.token.clone())
                .set_max_keys(most)
                .encoding_type(EncodingType::Url);
            let answer = request.send().await.map_err(failure)?;
            // Not every server does so when asked.
            let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
            let decoded = |text: &str| match is_encoded {
                true => decoded(text),
                false => Some(text.to_owned()),
            };
            let unreadable = || Failure::late(Class::Other, "a key of the listing is not UTF-8");
            let mut page = ListedPage::default();
            for object in answer.contents() {
                let Some(key) = object.key() else {
                    return Err(Failure::late(Class::Other, "an object of the listing has no key"));
                };
                let size = object.size().and_then(|size| u64::try_from(size).ok());
                let Some(size) = size else {
                    return Err(Failure::late(Class::Other, "the listing names no sizes"));
                };
                let key = decoded(key).ok_or_else(unreadable)?;
                // One that ignores the prefix lists what is none of ours.
                if key.starts_with(prefix) {
                    page.objects.push(Listed {
                        key,
                        size,
                        modified: object.last_modified().map_or(0, |time| time.secs()),
                        etag: unquoted(object.e_tag()),
                        storage_class: object
                            .storage_class()
                            .map(|class| class.as_str().to_owned()),
                    });
                }
            }
            for common in answer.common_prefixes() {
                let common = decoded(common.prefix().unwrap_or_default()).ok_or_else(unreadable)?;
                page.prefixes.push(common);
            }
            page.is_last = answer.is_truncated() != Some(true);
            let following = match (page.is_last, answer.next_continuation_token()) {
                (true, _) => None,
                (false, Some(token)) => Some(Start { after: None, token: Some(token.to_owned()) }),
                (false, None) => {
                    return Err(Failure::late(
                        Class::Other,
                        "a page without a way to the next one",
                    ));
                }
            };
            Ok((page, following))
        })
        .await
    }
}

/// A listing that is under way.
#[derive(Debug)]
pub struct Pages {
    client: S3Client,
    prefix: String,
    delimiter: bool,
    most: Option<i32>,
    next: Option<Start>,
}

impl Pages {
    /// At most so many keys and prefixes a page.
    pub fn of(self, most: i32) -> Self {
        Self { most: Some(most), ..self }
    }

    /// The next page; `None` behind the last.
    pub async fn next(&mut self) -> S3Result<Option<ListedPage>> {
        let Some(start) = self.next.take() else { return Ok(None) };
        let (client, prefix) = (&self.client, &self.prefix);
        let (page, following) = client.list_page(prefix, self.delimiter, self.most, &start).await?;
        if following.as_ref() == Some(&start) {
            let what = "the server sends the same page again and again";
            let failure = Failure::late(Class::Other, what);
            return Err(client.error(failure, Operation::ListObjects, prefix));
        }
        self.next = following;
        Ok(Some(page))
    }
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Start {
    after: Option<String>,
    token: Option<String>,
}

/// A key as it is, from its form in a URL.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (rest.next()?, rest.next()?);
                let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit(high)? << 4 | digit(low)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded() {
        assert_eq!(decoded("a/b").as_deref(), Some("a/b"));
        assert_eq!(decoded("a+b%2Bc%0A%C3%A4%2e").as_deref(), Some("a b+c\nä."));
        assert_eq!(decoded("%FF"), None);
        assert_eq!(decoded("a%2"), None);
        assert_eq!(decoded("a%zz"), None);
    }
}
