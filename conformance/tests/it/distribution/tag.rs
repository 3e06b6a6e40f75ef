//! end-8a and 8b: `GET /v2/<name>/tags/list`.

use conformance::{
    Answer, Request,
    fixture::{Format, image},
    push,
};

use super::{REPOSITORY, registry};

fn list(query: &str) -> Request {
    Request::get(format!("/v2/{REPOSITORY}/tags/list{query}"))
}

fn tags(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    assert_eq!(json["name"], REPOSITORY);
    json["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

/// end-8a: in a repository that nobody pushed to.
#[tokio::test]
async fn the_tags_of_an_absent_repository_are_unknown() {
    let (_harness, vendor) = registry().await;
    vendor.send(list("")).await.refused(404, "NAME_UNKNOWN");
}

/// end-8a: in lexical order, as bytes.
#[tokio::test]
async fn every_tag_is_listed_in_order() {
    let (_harness, vendor) = registry().await;
    let bundle = image("listed", Format::Oci);
    for tag in ["v2", "v10", "Latest", "_x", "v1"] {
        push::bundle(&vendor, REPOSITORY, tag, &bundle).await;
    }
    let answer = vendor.send(list("")).await.expect(200);
    assert_eq!(tags(&answer), ["Latest", "_x", "v1", "v10", "v2"]);
    assert!(answer.header("link").is_empty(), "{:?}", answer.headers);
}

/// end-8b: `n` cuts a page, `Link` leads to the next, `last` need not exist.
#[tokio::test]
async fn tags_come_in_pages() {
    let (_harness, vendor) = registry().await;
    let bundle = image("paged", Format::Oci);
    for tag in ["a", "b", "c", "d", "e"] {
        push::bundle(&vendor, REPOSITORY, tag, &bundle).await;
    }
    let mut seen = Vec::new();
    let mut next = list("?n=2");
    loop {
        let answer = vendor.send(next).await.expect(200);
        seen.push(tags(&answer));
        let link = answer.header("link").to_owned();
        if link.is_empty() {
            break;
        }
        assert!(link.ends_with(">; rel=\"next\""), "{link}");
        next = Request::get(link.trim_start_matches('<').split('>').next().unwrap());
    }
    assert_eq!(seen, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    assert_eq!(tags(&vendor.send(list("?last=bb")).await.expect(200)), ["c", "d", "e"]);
    assert_eq!(tags(&vendor.send(list("?last=b&n=1")).await.expect(200)), ["c"]);
    assert_eq!(tags(&vendor.send(list("?last=e")).await.expect(200)), [""; 0]);
    assert_eq!(tags(&vendor.send(list("?n=0")).await.expect(200)), [""; 0]);
    assert_eq!(tags(&vendor.send(list("?n=5")).await.expect(200)).len(), 5);
}

/// end-8b.
#[tokio::test]
async fn a_page_size_that_is_no_number_is_refused() {
    let (_harness, vendor) = registry().await;
    push::bundle(&vendor, REPOSITORY, "v1", &image("numbers", Format::Oci)).await;
    for query in ["?n=-1", "?n=x", "?n=1.5", "?n="] {
        vendor.send(list(query)).await.expect(400);
    }
    vendor.send(list("?n=100000000")).await.expect(200);
}
