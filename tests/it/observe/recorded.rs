//! A subscriber that records events and closed spans.
//!
//! It is global, because a manager and a pool have their own threads. Tests select by the name of
//! the object and the number of the session.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Mutex, Once, PoisonError},
};

use lockkeeper_test_support::until;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// An event or a closed span.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) level: Level,
    pub(crate) target: String,
    /// The message, or the span's name.
    pub(crate) message: String,
    pub(crate) fields: Fields,
}

impl Recorded {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.0.get(name).map_or("", String::as_str)
    }

    /// Returns a numeric field.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.field(name).parse().expect("the field is a number")
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

static RECORDED: Mutex<Vec<Recorded>> = Mutex::new(Vec::new());

struct Collector;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        keep(event.metadata(), fields);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let span = context.span(id).expect("the span is new");
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("the span is open");
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            record.record(fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).expect("the span was open");
        let fields = span.extensions_mut().remove().unwrap_or_default();
        keep(span.metadata(), fields);
    }
}

fn keep(metadata: &tracing::Metadata<'_>, mut fields: Fields) {
    if metadata.target().starts_with("lockkeeper") {
        let message = fields.0.remove("message");
        let mut recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.push(Recorded {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            message: message.unwrap_or_else(|| metadata.name().to_owned()),
            fields,
        });
    }
}

/// Installs the subscriber for the whole process.
pub(crate) fn start_recording() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let collector = Registry::default().with(Collector);
        tracing::subscriber::set_global_default(collector).expect("no other subscriber is set");
    });
}

/// Returns all matching entries.
pub(crate) fn recorded(message: &str, is_it: impl Fn(&Recorded) -> bool) -> Vec<Recorded> {
    let recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
    let of_that_sort = recorded
        .iter()
        .filter(|recorded| recorded.message == message);
    of_that_sort
        .filter(|recorded| is_it(recorded))
        .cloned()
        .collect()
}

/// Waits for a matching entry, and asserts that there is only one.
pub(crate) async fn recorded_once(message: &str, is_it: impl Fn(&Recorded) -> bool) -> Recorded {
    until(message, || async { !recorded(message, &is_it).is_empty() }).await;
    let mut recorded = recorded(message, &is_it);
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    recorded.remove(0)
}
