use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use buildkit_solver::graph::{
    Action, ActionId, Answer, DepInfo, Event, Failure, Graph, JobKey, LoadVertex, MapInfo, NodeId, OutputId,
    Question, RequestId, SaveKey, Wanted,
};
use buildkit_solver::{
    CacheKeyStore, KeySource, Link, MemoryKeyStore, NewKey, OutputIndex, Parent, Record, ResultId, VertexId,
    ensure_key,
};

use crate::fake::results;
use crate::ladder::{self, Ladder};
use crate::{Failing, FakeError, FakeOp, FakeOutput, Program, Random, digest};

/// How a program is played.
#[derive(Clone, Copy, Debug, Default)]
pub struct Play {
    /// Jobs run at the same time; else each ends before the next begins.
    pub concurrent: bool,
    /// Jobs and requests may be withdrawn.
    pub cancels: bool,
    /// Loads may fail and results may be lost.
    pub losses: bool,
}

/// What one job got and ran.
#[derive(Debug, Default)]
pub struct JobReport {
    /// Result of each target, or the error.
    pub answers: BTreeMap<usize, Result<FakeOutput, String>>,
    /// Ops that ran while this was the only job: kind and what they made.
    pub runs: Vec<(usize, Vec<FakeOutput>)>,
}

enum Work {
    Map(NodeId, usize),
    Digest(NodeId, usize, OutputId, [bool; 2]),
    Fetch(ResultId),
    Execute(NodeId, Vec<OutputId>),
    Save(Vec<SaveKey>, OutputId),
}

/// Plays a program on the bare state machine: work ends in random order, and the rules of the
/// contract are checked after each step.
pub struct Simulation<'a> {
    program: &'a Program,
    play: Play,
    random: Random,
    graph: Graph,
    /// The store of keys.
    pub keys: MemoryKeyStore,
    saved: HashMap<ResultId, FakeOutput>,
    outputs: HashMap<OutputId, FakeOutput>,
    nodes: HashMap<NodeId, usize>,
    pending: BTreeMap<ActionId, Work>,
    cancelled: HashSet<ActionId>,
    executing: HashSet<NodeId>,
    requests: BTreeMap<RequestId, (usize, usize)>,
    loads: HashMap<RequestId, Vec<usize>>,
    reports: Vec<JobReport>,
    current: usize,
    counter: u64,
    /// Edges that had a record by definition when the job began: later ones may have been asked before.
    found: HashSet<(usize, OutputIndex)>,
    /// Whether the order of effort is checked, see [`Self::check_run`] and [`Self::check_effort`].
    laddered: bool,
}

/// What went wrong, with the program.
type Broken = String;

impl<'a> Simulation<'a> {
    /// Plays a program from its first job to its last.
    ///
    /// # Errors
    /// The rule that was broken.
    pub fn run(program: &'a Program, play: Play) -> Result<(Vec<JobReport>, MemoryKeyStore), Broken> {
        let mut simulation = Self {
            program,
            play,
            random: Random::new(program.seed ^ 0xabcd),
            graph: Graph::new(),
            keys: MemoryKeyStore::new(),
            saved: HashMap::new(),
            outputs: HashMap::new(),
            nodes: HashMap::new(),
            pending: BTreeMap::new(),
            cancelled: HashSet::new(),
            executing: HashSet::new(),
            requests: BTreeMap::new(),
            loads: HashMap::new(),
            reports: program.jobs.iter().map(|_| JobReport::default()).collect(),
            current: 0,
            counter: 0,
            found: HashSet::new(),
            laddered: !play.concurrent && ladder::covers(program),
        };
        if play.concurrent {
            simulation.play_together()?
        } else {
            simulation.play_in_turn()?
        }
        simulation.finish()?;
        Ok((simulation.reports, simulation.keys))
    }

    fn play_in_turn(&mut self) -> Result<(), Broken> {
        for job in 0..self.program.jobs.len() {
            self.current = job;
            if self.laddered {
                self.found = self.ladder().found_by_definition();
            }
            self.begin(job)?;
            self.drain()?;
            self.step(vec![Event::JobGone(JobKey(job as u64))])?;
            self.drain()?;
        }
        Ok(())
    }

    fn play_together(&mut self) -> Result<(), Broken> {
        let mut waiting: Vec<usize> = (0..self.program.jobs.len()).rev().collect();
        let mut live: Vec<usize> = Vec::new();
        let mut steps = 0;
        while !waiting.is_empty() || !self.pending.is_empty() {
            steps += 1;
            if steps > 5000 {
                return Err("program does not end".to_owned());
            }
            if (self.pending.is_empty() || self.random.one_in(6))
                && let Some(job) = waiting.pop()
            {
                live.push(job);
                self.begin(job)?;
                continue;
            }
            if self.play.cancels && self.random.one_in(12) && !live.is_empty() {
                let at = self.random.below(live.len());
                let job = live[at];
                if self.random.one_in(2) {
                    live.swap_remove(at);
                    self.requests.retain(|_, (owner, _)| *owner != job);
                    self.step(vec![Event::JobGone(JobKey(job as u64))])?;
                } else {
                    let mine = self.requests.iter().find(|(_, (owner, _))| *owner == job).map(|(id, _)| *id);
                    if let Some(request) = mine {
                        self.requests.remove(&request);
                        self.step(vec![Event::Withdraw(request)])?;
                    }
                }
                continue;
            }
            if self.play.losses && self.random.one_in(20) {
                self.saved.clear();
            }
            self.end_some()?;
        }
        if !self.requests.is_empty() {
            return Err(format!("requests were never answered: {:?}", self.requests));
        }
        for job in live {
            self.step(vec![Event::JobGone(JobKey(job as u64))])?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), Broken> {
        let mut steps = 0;
        while !self.pending.is_empty() {
            steps += 1;
            if steps > 5000 {
                return Err("program does not end".to_owned());
            }
            self.end_some()?;
        }
        if self.requests.is_empty() { Ok(()) } else { Err("a request was never answered".to_owned()) }
    }

    fn finish(&mut self) -> Result<(), Broken> {
        self.drain()?;
        if !self.graph.is_clean() {
            return Err("graph remembers vertices of jobs that are gone".to_owned());
        }
        if !self.outputs.is_empty() {
            return Err(format!("{} results were not released", self.outputs.len()));
        }
        Ok(())
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Loads a job's vertices and asks for its targets.
    fn begin(&mut self, job: usize) -> Result<(), Broken> {
        let wanted = self.program.jobs[job].clone();
        for target in wanted.targets {
            let mut places = Vec::new();
            let mut needed: HashSet<usize> = HashSet::from([target.0]);
            for place in (0..=target.0).rev() {
                if needed.contains(&place) {
                    needed.extend(self.program.vertices[place].inputs.iter().map(|(input, _)| *input));
                    places.push(place);
                }
            }
            places.reverse();
            let at =
                |place: usize| places.iter().position(|other| *other == place).unwrap_or_default() as u32;
            let vertices = places
                .iter()
                .map(|place| LoadVertex {
                    id: VertexId(digest(format!("v{place}"))),
                    inputs: self.program.vertices[*place]
                        .inputs
                        .iter()
                        .map(|(i, output)| (at(*i), *output))
                        .collect(),
                    ignore_cache: wanted.ignoring.contains(place),
                    export: None,
                    cost: 1.0,
                })
                .collect();
            let request = RequestId(self.next());
            self.requests.insert(request, (job, target.0 * 8 + target.1 as usize));
            let target = (at(target.0), target.1);
            self.loads.insert(request, places);
            self.step(vec![Event::Build { job: JobKey(job as u64), request, vertices, target }])?;
        }
        Ok(())
    }

    /// Ends one or several pieces of work.
    fn end_some(&mut self) -> Result<(), Broken> {
        let mut events = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let at = self.random.below(self.pending.len());
            let Some(action) = self.pending.keys().nth(at).copied() else { break };
            let Some(work) = self.pending.remove(&action) else { break };
            let stopped = self.cancelled.remove(&action) && !self.random.one_in(4);
            if let Work::Execute(node, _) = &work {
                self.executing.remove(node);
            }
            events.push(if stopped { Event::Cancelled(action) } else { self.end(action, work)? });
        }
        self.step(events)
    }

    fn op(&self, node: NodeId) -> Result<&'a FakeOp, Broken> {
        let place = self.nodes.get(&node).ok_or_else(|| format!("{node:?} was never loaded"))?;
        Ok(self.program.op(*place))
    }

    fn keep(&mut self, output: FakeOutput) -> OutputId {
        let id = OutputId(self.next());
        self.outputs.insert(id, output);
        id
    }

    fn end(&mut self, action: ActionId, work: Work) -> Result<Event, Broken> {
        let failure = |text: &str| -> Failure { Arc::new(FakeError(text.to_owned())) };
        Ok(match work {
            Work::Map(node, index) => {
                let op = self.op(node)?;
                let inputs = self.program.vertices[self.nodes[&node]].inputs.len();
                let Some(text) = op.maps.get(index) else { return Err(format!("map {index} of {node:?}")) };
                let deps = (0..inputs).map(|input| DepInfo {
                    selector: op.selectors.get(&input).map(digest),
                    content: op.content.contains(&input),
                    prepare: op.prepare.contains(&input),
                });
                let map = MapInfo {
                    digest: digest(text),
                    deps: deps.collect(),
                    done: index + 1 >= op.maps.len(),
                    preimage: None,
                };
                Event::Mapped(action, if op.failing == Failing::Map { Err(failure("map")) } else { Ok(map) })
            }
            Work::Digest(node, input, output, [prepare, content]) => {
                let op = self.op(node)?;
                if prepare != op.prepare.contains(&input) || content != op.content.contains(&input) {
                    return Err(format!("wrong work on input {input} of {node:?}"));
                }
                let output = self.outputs.get(&output).ok_or("digest of a released result")?;
                Event::Digested(action, Ok(content.then(|| output.content.clone())))
            }
            Work::Fetch(result) => {
                let fails = self.play.losses && self.random.one_in(5);
                let output = if fails { None } else { self.saved.get(&result).cloned() };
                let output = output.map(|output| self.keep(output));
                Event::Fetched(action, output)
            }
            Work::Execute(node, inputs) => {
                let op = self.op(node)?;
                let inputs: Option<Vec<FakeOutput>> =
                    inputs.iter().map(|id| self.outputs.get(id).cloned()).collect();
                let inputs = inputs.ok_or("run with a released input")?;
                if op.failing == Failing::Exec {
                    return Ok(Event::Executed(action, Err(failure("exec"))));
                }
                let made = made(op, &inputs);
                let kind = self.program.vertices[self.nodes[&node]].kind;
                self.reports[self.current].runs.push((kind, made.clone()));
                let ids = made.into_iter().map(|output| self.keep(output)).collect();
                Event::Executed(action, Ok(ids))
            }
            Work::Save(keys, output) => {
                let value = self.outputs.get(&output).ok_or("save of a released result")?.clone();
                let number = self.next();
                let result = ResultId(format!("r{number}"));
                self.saved.insert(result.clone(), value);
                let created_at = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
                let ids: Result<Vec<_>, _> = keys
                    .iter()
                    .map(|key| {
                        let id = ensure_key(&self.keys, &new_key(key))?;
                        let record = Record { result: result.clone(), created_at, priority: 0 };
                        self.keys.add_record(&id, &record)?;
                        Ok(id)
                    })
                    .collect();
                let ids = ids.map_err(|error: buildkit_solver::StoreError| error.to_string())?;
                Event::Saved(action, ids)
            }
        })
    }

    fn step(&mut self, mut events: Vec<Event>) -> Result<(), Broken> {
        loop {
            let actions = self.graph.step(events);
            let mut questions = None;
            for action in actions {
                if questions.is_some() {
                    return Err("an action follows a question".to_owned());
                }
                if let Action::Ask(asked) = action {
                    questions = Some(asked);
                } else {
                    self.perform(action)?;
                }
            }
            match questions {
                Some(questions) => {
                    let answers: Result<Vec<Answer>, _> =
                        questions.iter().map(|(_, question)| self.answer(question)).collect();
                    let answers = answers.map_err(|error: buildkit_solver::StoreError| error.to_string())?;
                    events = vec![Event::Answered(answers)];
                }
                None => {
                    if self.laddered {
                        self.check_effort()?;
                    }
                    return self.graph.check();
                }
            }
        }
    }

    fn answer(&self, question: &Question) -> Result<Answer, buildkit_solver::StoreError> {
        Ok(match question {
            Question::Links(query) => {
                let found = self.keys.query(std::slice::from_ref(query))?;
                Answer::Links(found.into_iter().flatten().collect())
            }
            Question::Key(key) => {
                let mut records = self.keys.records(key)?;
                records.retain(|record| self.saved.contains_key(&record.result));
                Answer::Key(self.keys.exists(key)?, records)
            }
        })
    }

    /// Nothing runs where a record is found. One job at a time: what others save meanwhile may come
    /// too late.
    fn check_run(&self, node: NodeId) -> Result<(), Broken> {
        if repeats_itself(self.program) {
            // What is made below it too was not there yet when the store was asked.
            return Ok(());
        }
        let place = *self.nodes.get(&node).ok_or_else(|| format!("{node:?} was never loaded"))?;
        if !self.program.jobs[self.current].ignoring.is_empty() {
            // One that ignores the cache takes others over, and offers no keys then.
            return Ok(());
        }
        let (ladder, efforts) = (self.ladder(), self.graph.efforts(node));
        let mut wanted = efforts.iter().filter(|edge| edge.runs && edge.wanted == Wanted::Result);
        if wanted.any(|edge| !ladder.found_with_inputs(place, edge.output)) {
            return Ok(());
        }
        Err(format!("v{place} runs in job {} although there is a record: {efforts:?}", self.current))
    }

    /// No rung of the ladder is climbed that an earlier one made needless: of an input of an edge that
    /// does not run, the result is wanted for its content only, and that only where definitions lead
    /// to no record or a consumer is after more keys than those.
    fn check_effort(&self) -> Result<(), Broken> {
        for (node, place) in &self.nodes {
            let op = self.program.op(*place);
            for edge in self.graph.efforts(*node).into_iter().filter(|edge| !edge.runs) {
                let mut effort = edge.results.iter().chain(&edge.works).peekable();
                if effort.peek().is_none() {
                    continue;
                }
                let open = edge.wanted == Wanted::AllKeys || !self.found.contains(&(*place, edge.output));
                if !open || !effort.all(|input| op.content.contains(input)) {
                    return Err(format!("v{place} goes too far in job {}: {edge:?}", self.current));
                }
            }
        }
        Ok(())
    }

    fn ladder(&self) -> Ladder<'_> {
        let ignoring = &self.program.jobs[self.current].ignoring;
        Ladder { program: self.program, keys: &self.keys, ignoring }
    }

    fn perform(&mut self, action: Action) -> Result<(), Broken> {
        match action {
            Action::Loaded(request, nodes) => {
                for (node, place) in nodes.into_iter().zip(self.loads.remove(&request).unwrap_or_default()) {
                    self.nodes.insert(node, place);
                }
            }
            Action::Map(action, node, index) => {
                self.pending.insert(action, Work::Map(node, index));
            }
            Action::Digest(action, node, input, output, flags) => {
                self.pending.insert(action, Work::Digest(node, input, output, flags));
            }
            Action::Fetch(action, _, result) => {
                self.pending.insert(action, Work::Fetch(result));
            }
            Action::Execute(action, node, inputs, _) => {
                if self.laddered {
                    self.check_run(node)?;
                }
                if !self.executing.insert(node) {
                    return Err(format!("{node:?} runs twice at a time"));
                }
                self.pending.insert(action, Work::Execute(node, inputs));
            }
            Action::Save(action, _, keys, output) => {
                self.pending.insert(action, Work::Save(keys, output));
            }
            Action::Link(query, key) => {
                for parent in query.parents {
                    let link = Link {
                        input: query.input,
                        digest: query.digest.clone(),
                        output: query.output,
                        selector: parent.selector,
                    };
                    self.keys.add_link(&parent.key, &link, &key).map_err(|error| error.to_string())?;
                }
            }
            Action::Cancel(action) => {
                if !self.pending.contains_key(&action) || !self.cancelled.insert(action) {
                    return Err(format!("{action:?} is cancelled but does not run"));
                }
            }
            Action::Respond(request, result) => {
                let Some((job, target)) = self.requests.remove(&request) else {
                    return Err(format!("answer to {request:?} that nobody waits for"));
                };
                let (place, output) = (target / 8, (target % 8) as OutputIndex);
                let answer = match result {
                    Ok(finished) => {
                        let value =
                            self.outputs.get(&finished.output).ok_or("answer with a released result")?;
                        let expect = value_of(self.program, place, output);
                        if *value != expect {
                            return Err(format!("v{place}.{output} is {value:?} instead of {expect:?}"));
                        }
                        Ok(value.clone())
                    }
                    Err(failure) => {
                        if !may_fail(self.program, place) {
                            return Err(format!("v{place} failed without a failing op: {failure}"));
                        }
                        Err(failure.to_string())
                    }
                };
                self.reports[job].answers.insert(target, answer);
            }
            Action::Release(output) => {
                self.outputs.remove(&output).ok_or("a result is released twice")?;
            }
            Action::Removed(node) => {
                self.nodes.remove(&node).ok_or("a node is removed twice")?;
            }
            Action::Ask(_) | Action::Joined(..) | Action::Left(..) | Action::Merged(..) | Action::Hit(_) => {}
        }
        Ok(())
    }
}

/// What an op makes of its inputs.
pub(crate) fn made(op: &FakeOp, inputs: &[FakeOutput]) -> Vec<FakeOutput> {
    results(op.maps.last().map_or(op.name.as_str(), String::as_str), op, inputs)
}

pub(crate) fn new_key(key: &SaveKey) -> NewKey {
    let parents = key.deps.iter().map(|deps| {
        deps.iter().map(|dep| Parent { key: dep.key.id().clone(), selector: dep.selector.clone() }).collect()
    });
    NewKey { digest: key.digest.clone(), output: key.output, parents: parents.collect(), preimage: None }
}

/// The only right result of an edge.
pub(crate) fn value_of(program: &Program, place: usize, output: OutputIndex) -> FakeOutput {
    let inputs: Vec<FakeOutput> = program.vertices[place]
        .inputs
        .iter()
        .map(|(input, output)| value_of(program, *input, *output))
        .collect();
    made(program.op(place), &inputs)[output as usize].clone()
}

/// Whether some op that a vertex may need fails.
fn may_fail(program: &Program, place: usize) -> bool {
    program.op(place).failing != Failing::No
        || program.vertices[place].inputs.iter().any(|(input, _)| may_fail(program, *input))
}

/// Whether a vertex makes what a vertex below it makes too. Such pairs stay apart although they have
/// a key in common, and the upper one may have asked the store before the lower one was saved.
pub fn repeats_itself(program: &Program) -> bool {
    (0..program.vertices.len()).any(|place| {
        let own = value_of(program, place, 0);
        let mut pending: Vec<usize> =
            program.vertices[place].inputs.iter().map(|(input, _)| *input).collect();
        while let Some(below) = pending.pop() {
            if value_of(program, below, 0) == own {
                return true;
            }
            pending.extend(program.vertices[below].inputs.iter().map(|(input, _)| *input));
        }
        false
    })
}
