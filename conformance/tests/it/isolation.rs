//! Nobody gets at what is not theirs: every operation, asked for by everybody who can come, where the target exists and where it
//! does not, in their own account and in another.
//!
//! The requests are made from [`OperationKind::ALL`] and the answers compared with [`oracle`], which is also what
//! `docs/isolation-matrix.md` shows. Of every answer its status, code, message and challenge are checked; of every refusal also
//! that it is the same whatever exists, that it cost no storage call, and that it left the store as it was.

mod api;
mod caller;
mod check;
mod counted;
mod forged;
mod oracle;
mod page;
mod request;
mod stale;
mod visitor;
mod world;

use std::collections::{HashMap, HashSet};

use conformance::{Answer, Request};
use http::Method;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use registry::{
    access::Access,
    oci::route::{self, OperationKind, RouteError},
};

use self::{
    check::{catalog_account, check},
    oracle::{Door, Place, Principal, Stage, Verdict, expected},
    request::Target,
    visitor::{Visitor, dress},
    world::World,
};

/// One request of one visitor.
struct Cell<'a> {
    visitor: &'a Visitor,
    kind: OperationKind,
    place: Place,
    door: Door,
    stage: Stage,
    verdict: Verdict,
}

/// What two refusals must have in common.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Seen {
    fn of(answer: &Answer) -> Self {
        let mut headers: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        headers.sort();
        Self { status: answer.status.as_u16(), headers, body: answer.text() }
    }
}

/// What went otherwise than it must, and the refusals seen so far.
#[derive(Default)]
struct Findings {
    cells: usize,
    refusals: usize,
    wrong: Vec<String>,
    /// By title and account of the visitor, request, place, and the name that it was asked at.
    seen: HashMap<(&'static str, &'static str, &'static str, Place, Door), Seen>,
}

impl<'a> Cell<'a> {
    fn new(visitor: &'a Visitor, kind: OperationKind, place: Place, door: Door, stage: Stage) -> Option<Self> {
        let of_a_repository =
            matches!(kind.access(), Access::RepoRead | Access::RepoWrite | Access::RepoDelete | Access::Upload);
        // An account that does not exist is asked for its repositories, by everybody; the others exist from the beginning.
        let there_is = match stage {
            Stage::NoAccount => of_a_repository && place == Place::Other,
            // At the names of accounts it is enough to see both ends.
            Stage::NoContent if door != Door::Registry => false,
            Stage::NoRepository | Stage::NoContent | Stage::There => of_a_repository || place == Place::Own,
        };
        let mut verdict = expected(kind.access(), visitor.principal, place, door);
        // Without a session of its own in the repository an expired token is no more than that.
        let sessionless = kind.access() == Access::Upload && stage != Stage::There;
        if visitor.principal == Principal::ExpiredOwnSession && sessionless {
            verdict = Verdict::Invalid;
        }
        there_is.then_some(Self { visitor, kind, place, door, stage, verdict })
    }

    fn repository(&self) -> String {
        World::repository(self.visitor.account, self.place)
    }

    /// What of the stage a served request used up.
    fn spends(&self) -> bool {
        matches!(self.kind, OperationKind::BlobDelete | OperationKind::ManifestDelete) && self.stage == Stage::There
    }

    async fn session(&self, world: &World, standing: &HashMap<String, String>) -> String {
        let repository = self.repository();
        let (account, _) = repository.split_once('/').unwrap();
        if self.kind.access() != Access::Upload {
            return String::new();
        }
        if self.stage != Stage::There {
            return world.foreign_session(account).await;
        }
        let own = if self.place == Place::Own && matches!(self.door, Door::Registry | Door::Own) {
            self.visitor.sessions.lock().pop_front()
        } else {
            None
        };
        if let Some(own) = own {
            return own;
        }
        if self.verdict.refuses()
            && let Some(open) = standing.get(&repository)
        {
            return open.clone();
        }
        world.open_session(&repository).await
    }
}

/// How many requests the matrix makes, and how many of them must be refused.
fn size(visitors: &[Visitor]) -> (usize, usize) {
    let (mut all, mut refusals) = (0, 0);
    for cell in Stage::ALL.into_iter().flat_map(|stage| cells(visitors, stage)) {
        let requests = request::count(cell.kind);
        all += requests;
        refusals += if cell.verdict.refuses() { requests } else { 0 };
    }
    (all, refusals)
}

/// Every cell of a stage: first what is refused, then what is done, and last of that what makes a repository.
fn cells(visitors: &[Visitor], stage: Stage) -> Vec<Cell<'_>> {
    let makes = |kind| matches!(kind, OperationKind::UploadOpen | OperationKind::ManifestPut);
    let mut cells = Vec::new();
    for door in Door::ALL {
        for visitor in at(door, visitors) {
            for kind in OperationKind::ALL {
                cells.extend(Place::ALL.into_iter().filter_map(|place| Cell::new(visitor, kind, place, door, stage)));
            }
        }
    }
    cells.sort_by_key(|cell| (!cell.verdict.refuses(), makes(cell.kind)));
    cells
}

/// Who comes to a name: everybody to the registry's own, one of each kind and account to those of accounts.
fn at(door: Door, visitors: &[Visitor]) -> Vec<&Visitor> {
    let mut known = HashSet::new();
    let new = |visitor: &&Visitor| door == Door::Registry || known.insert((visitor.principal, visitor.account));
    visitors.iter().filter(new).collect()
}

#[tokio::test]
async fn everybody_gets_what_is_theirs_and_nobody_else_does() {
    let world = World::new().await;
    let visitors = visitor::all(&world).await;
    for principal in Principal::ALL {
        assert!(visitors.iter().any(|visitor| visitor.principal == principal), "nobody is {principal:?}");
    }
    world.settle().await;
    let mut findings = Findings::default();
    for stage in Stage::ALL {
        world.bring(stage).await;
        let standing = standing_sessions(&world, &visitors, stage).await;
        for cell in cells(&visitors, stage) {
            ask(&world, &cell, &standing, &mut findings).await;
        }
        world.quiet().await;
    }
    println!("{} cells, {} of them refusals", findings.cells, findings.refusals);
    let (count, first) = (findings.wrong.len(), findings.wrong.iter().take(40).cloned().collect::<Vec<_>>());
    assert!(findings.wrong.is_empty(), "{count} cells are wrong:\n{}", first.join("\n"));
    assert_eq!((findings.cells, findings.refusals), size(&visitors), "not every cell was asked");
}

/// Paths and methods that are no operation: strangers are asked who they are, others are told so, and nobody reaches anything.
#[tokio::test]
async fn what_is_no_operation_reaches_nothing() {
    const WORDS: [&str; 24] = [
        "v2",
        "acme",
        "web",
        "api",
        "gamma",
        "_catalog",
        "tags",
        "list",
        "manifests",
        "blobs",
        "uploads",
        "referrers",
        "v1",
        "latest",
        "..",
        ".",
        "",
        "%2e%2e",
        "a%2fb",
        "A",
        "sha256:0",
        "token",
        "healthz",
        "x",
    ];
    const METHODS: [Method; 7] =
        [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let world = World::new().await;
    let visitors = visitor::all(&world).await;
    world.bring(Stage::NoRepository).await;
    world.bring(Stage::There).await;
    let one = |principal| visitors.iter().find(|visitor| visitor.principal == principal).unwrap();
    let (nobody, known) = (one(Principal::Nobody), one(Principal::DeleteBasic));
    let mut random = StdRng::seed_from_u64(1);
    let mut kinds = HashMap::<&str, u32>::new();
    for _ in 0..10_000 {
        let method = METHODS.choose(&mut random).unwrap();
        let mut path = if random.random_bool(0.7) { "/v2/acme".to_owned() } else { String::new() };
        for _ in 0..random.random_range(1..6) {
            path = path + "/" + WORDS.choose(&mut random).unwrap();
        }
        let Err(error) = route::parse(method, &path) else { continue };
        let (kind, stranger, told, code) = match error {
            RouteError::NotFound { v2: true } => ("path", 401, 404, "UNSUPPORTED"),
            RouteError::NotFound { v2: false } => ("path elsewhere", 404, 404, "UNSUPPORTED"),
            RouteError::Method { v2: true, .. } => ("method", 401, 405, "UNSUPPORTED"),
            RouteError::Method { v2: false, .. } => ("method elsewhere", 405, 405, "UNSUPPORTED"),
            RouteError::Name(_) | RouteError::OneSegment(_) => ("name", 400, 400, "NAME_INVALID"),
            RouteError::Reference(_) => ("reference", 400, 400, "TAG_INVALID"),
            RouteError::Digest(_) => ("digest", 400, 400, "DIGEST_INVALID"),
        };
        *kinds.entry(kind).or_default() += 1;
        let before = world.counted.listing();
        world.counted.take();
        for (visitor, status) in [(nobody, stranger), (known, told)] {
            let request = Request::new(method.clone(), path.clone());
            let answer = world.main.client.send(dress(&world, visitor, request)).await.expect(status);
            if *method != Method::HEAD {
                assert_eq!(answer.code(), if status == 401 { "UNAUTHORIZED" } else { code }, "{method} {path}");
            }
        }
        assert_eq!(world.counted.take(), Vec::<String>::new(), "{method} {path}");
        assert_eq!(world.counted.listing(), before, "{method} {path}");
    }
    assert!(kinds.len() == 7 && kinds.values().all(|&count| count > 1), "some kinds are rare: {kinds:?}");
}

/// An open session in every repository, for those who may not use it.
async fn standing_sessions(world: &World, visitors: &[Visitor], stage: Stage) -> HashMap<String, String> {
    let mut standing = HashMap::new();
    if stage == Stage::There {
        for visitor in visitors {
            for place in Place::ALL {
                let repository = World::repository(visitor.account, place);
                if standing.contains_key(&repository) {
                    continue;
                }
                // Nobody opens one where nothing can be written; one of another repository is as good to be refused.
                let closed =
                    [world::FROZEN, world::HALTED, world::GONE].contains(&visitor.account) && place != Place::Other;
                let session = if closed {
                    world.foreign_session(visitor.account).await
                } else {
                    world.open_session(&repository).await
                };
                standing.insert(repository, session);
            }
        }
    }
    world.auth().write_last_use().await.unwrap();
    world.quiet().await;
    standing
}

async fn ask(world: &World, cell: &Cell<'_>, standing: &HashMap<String, String>, findings: &mut Findings) {
    let site = if cell.visitor.read_only { &world.read_only } else { &world.main };
    let repository = cell.repository();
    let count = request::count(cell.kind);
    for number in 0..count {
        let session = cell.session(world, standing).await;
        let target = Target { world, visitor: cell.visitor, repository: &repository, session: &session };
        let asked = request::make(cell.kind, number, &target);
        let host = site.host(cell.door, cell.visitor.account);
        let request = dress(world, cell.visitor, asked.request.clone()).header("Host", &host);
        let before = world.counted.listing();
        world.counted.take();
        let answer = site.client.send(request).await;
        let touched = world.counted.take();
        let mut wrong = Vec::new();

        check(cell, (site, &host), &asked, &answer, &mut wrong);
        if cell.verdict.refuses() {
            if !touched.is_empty() {
                wrong.push(format!("{} storage calls: {touched:?}", touched.len()));
            }
            if world.counted.listing() != before {
                wrong.push("the store is not what it was".to_owned());
            }
            findings.refusals += 1;
            let seen = Seen::of(&answer);
            let first =
                findings.seen.entry((cell.visitor.title, cell.visitor.account, asked.title, cell.place, cell.door));
            let first = first.or_insert_with(|| Seen::of(&answer));
            if *first != seen {
                wrong.push(format!("what exists makes a difference: {first:?} and {seen:?}"));
            }
        } else {
            let account = match cell.kind.access() {
                Access::Catalog => catalog_account(cell),
                _ => repository.split_once('/').unwrap().0,
            };
            let generation = world.generation(account).await.unwrap_or_default();
            let outside = touched.iter().find(|key| !key.split('/').any(|part| part == generation));
            if let Some(key) = outside {
                wrong.push(format!("{key} is not {account}'s"));
            }
            if cell.spends() {
                world.fill(&repository, Stage::There).await;
            }
            world.quiet().await;
        }
        findings.cells += 1;
        let Cell { visitor, place, door, stage, verdict, .. } = cell;
        findings.wrong.extend(wrong.into_iter().map(|wrong| {
            format!("{}, {}, {place:?}, {door:?}, {stage:?}: must be {verdict:?}: {wrong}", visitor.title, asked.title)
        }));
    }
}
