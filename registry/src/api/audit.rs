//! What was done, line by line: of one account, and of the installation.

use storage::Time;

use super::{
    Call, Problem,
    page::{Asked, Filters},
};
use crate::oci::Answered;

fn since(asked: &Asked) -> Result<Option<Time>, Problem> {
    let time = asked.given("since").map(auth::parse_time).transpose();
    time.map_err(|rule| Problem::invalid("?since", rule))
}

pub(super) async fn list(call: Call) -> Answered {
    let asked = Asked::read(&call, Filters::Audit)?;
    asked.answer(call.app.auth.audit(&call.actor, call.account()?, since(&asked)?, &asked.page).await?)
}

pub(super) async fn installation(call: Call) -> Answered {
    let asked = Asked::read(&call, Filters::Audit)?;
    asked.answer(call.app.auth.installation_audit(&call.actor, since(&asked)?, &asked.page).await?)
}
