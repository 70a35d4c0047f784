//! The files that the console's pages load: all of them in the program, named by what is in them, so
//! that a browser asks once for each.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// One file.
#[derive(Debug)]
pub(super) struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

impl Asset {
    /// Where it is.
    pub(super) fn url(&self) -> String {
        format!("/console/assets/{}?{}", self.name, self.version())
    }

    fn version(&self) -> &'static str {
        static VERSIONS: LazyLock<Vec<String>> = LazyLock::new(|| {
            let hash = |asset: &Asset| format!("{:x}", Sha256::digest(asset.text));
            ASSETS.iter().map(|asset| hash(asset)[..16].to_owned()).collect()
        });
        let at = ASSETS.iter().position(|asset| asset.name == self.name);
        at.map_or("", |at| &VERSIONS[at])
    }
}

/// `GET /console/assets/{name}`
pub(super) async fn get(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.into_iter().find(|asset| asset.name == name) else {
        return (StatusCode::NOT_FOUND, "There is no such file.\n").into_response();
    };
    let tag = format!("\"{}\"", asset.version());
    let keep = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        return (StatusCode::NOT_MODIFIED, keep).into_response();
    }
    (keep, [(header::CONTENT_TYPE, asset.kind)], asset.text).into_response()
}

pub(super) static STYLE: &Asset = &Asset {
    name: "console.css",
    kind: "text/css; charset=utf-8",
    text: include_str!("assets/console.css"),
};
pub(super) static ICON: &Asset =
    &Asset { name: "icon.svg", kind: "image/svg+xml", text: include_str!("assets/icon.svg") };
/// In the order in which they have to run.
pub(super) static SCRIPTS: [&Asset; 4] = [
    &Asset {
        name: "htmx-2.0.11.min.js",
        kind: SCRIPT,
        text: include_str!("assets/htmx-2.0.11.min.js"),
    },
    &Asset {
        name: "htmx-ext-sse-2.2.4.min.js",
        kind: SCRIPT,
        text: include_str!("assets/htmx-ext-sse-2.2.4.min.js"),
    },
    &Asset {
        name: "idiomorph-ext-0.8.0.min.js",
        kind: SCRIPT,
        text: include_str!("assets/idiomorph-ext-0.8.0.min.js"),
    },
    &Asset { name: "console.js", kind: SCRIPT, text: include_str!("assets/console.js") },
];
static ASSETS: [&Asset; 6] = [STYLE, ICON, SCRIPTS[0], SCRIPTS[1], SCRIPTS[2], SCRIPTS[3]];
const SCRIPT: &str = "text/javascript; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    /// What others wrote is here as they published it (npm; licence 0BSD): `NOTICE` names it.
    #[test]
    fn what_others_wrote_is_as_they_published_it() {
        for (asset, hash) in SCRIPTS.iter().zip([
            "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
            "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
            "5811b9a7eda14878b7dab4378bf60432e1bb6f11fcfb970cc26540642650181e",
        ]) {
            assert_eq!(format!("{:x}", Sha256::digest(asset.text)), hash, "{}", asset.name);
        }
        let notice = include_str!("../../../../NOTICE");
        for name in ["htmx 2.0.11", "htmx-ext-sse 2.2.4", "idiomorph 0.8.0"] {
            assert!(notice.contains(name), "{name}");
        }
    }

    #[test]
    fn all_scripts_together_are_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(bytes < 100 * 1024, "{bytes}");
    }

    #[tokio::test]
    async fn a_file_is_asked_for_once() {
        let name = || Path("console.css".to_owned());
        let first = get(name(), HeaderMap::new()).await;
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].clone();
        assert!(STYLE.url().ends_with(tag.to_str().unwrap().trim_matches('"')), "{tag:?}");
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        assert_eq!(get(name(), known).await.status(), StatusCode::NOT_MODIFIED);
        for none in ["", "console.cs", "../mod.rs"] {
            let answer = get(Path(none.to_owned()), HeaderMap::new()).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        }
    }
}
