//! A configuration as a tree of blocks with their directives, for questions about single directives and their scope.
//! Values come down from the nearest block around, as Nginx merges them. Bounded; reads files, executes nothing.

use std::path::Path;

use serde::Serialize;

use super::files::Reader;
use super::token::{Step, Tokens};

/// Most blocks kept.
const BLOCKS_LIMIT: usize = 100_000;
/// Most directives kept.
const DIRECTIVES_LIMIT: usize = 500_000;

/// A directive with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Directive {
    /// Its name.
    pub name: String,
    /// What stands behind it.
    pub arguments: Vec<String>,
}

/// A block; the first of a tree is the file itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Block {
    /// `http`, `server`, `location`, …; empty for the file itself.
    pub name: String,
    /// What stands between the name and the brace.
    pub arguments: Vec<String>,
    /// The block around.
    pub parent: Option<usize>,
    /// What stands in it, without inner blocks.
    pub directives: Vec<Directive>,
}

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tree {
    /// Every block, outer ones before inner ones.
    pub blocks: Vec<Block>,
    /// What could not be read.
    pub problems: Vec<String>,
}

impl Tree {
    /// Reads a configuration and its includes inside `root`.
    pub fn read(root: &Path, file: &Path) -> Self {
        let mut reader = Reader::new(root, file);
        let mut builder = Builder::new();
        reader.walk(file, &mut |step, _| builder.step(step));
        let mut tree = builder.tree;
        tree.problems.extend(reader.problems);
        tree
    }

    /// Reads a text without includes.
    pub fn of_text(text: &str) -> Self {
        let mut builder = Builder::new();
        Tokens::new(text.as_bytes()).for_each(|step| builder.step(step));
        builder.tree
    }

    /// The blocks of a kind, by number.
    pub fn of_kind<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (usize, &'a Block)> {
        self.blocks.iter().enumerate().filter(move |(_, block)| block.name == name)
    }

    /// Every directive of a name with the number of its block.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (usize, &'a Directive)> {
        self.blocks.iter().enumerate().flat_map(move |(number, block)| {
            block.directives.iter().filter(move |one| one.name == name).map(move |one| (number, one))
        })
    }

    /// The directives of a name that hold in a block: its own, or those of the nearest block that has any.
    pub fn holding(&self, block: usize, name: &str) -> Vec<&Directive> {
        let mut at = Some(block);
        while let Some(block) = at.and_then(|number| self.blocks.get(number)) {
            let own: Vec<&Directive> = block.directives.iter().filter(|one| one.name == name).collect();
            if !own.is_empty() {
                return own;
            }
            at = block.parent;
        }
        Vec::new()
    }

    /// The first argument of the directive that holds in a block.
    pub fn value(&self, block: usize, name: &str) -> Option<&str> {
        self.holding(block, name).first()?.arguments.first().map(String::as_str)
    }

    /// Whether a block lies, at any depth, in one of this name.
    pub fn is_inside(&self, block: usize, name: &str) -> bool {
        self.chain(block).any(|block| block.name == name)
    }

    fn chain(&self, block: usize) -> impl Iterator<Item = &Block> {
        let step = |block: &&Block| self.blocks.get(block.parent?);
        std::iter::successors(self.blocks.get(block), step)
    }

    /// Where a block is, as a person would say it: `server api.example, location /v1`.
    pub fn place(&self, block: usize) -> String {
        let mut names: Vec<String> = self.chain(block).filter_map(label).collect();
        names.reverse();
        if names.is_empty() { "main".to_owned() } else { names.join(", ") }
    }
}

fn label(block: &Block) -> Option<String> {
    match block.name.as_str() {
        "" => None,
        "server" => {
            let first = |name: &str| {
                let found = block.directives.iter().find(|one| one.name == name)?;
                found.arguments.first().filter(|argument| !argument.is_empty()).cloned()
            };
            Some(format!("server {}", first("server_name").or_else(|| first("listen")).unwrap_or_default()))
        }
        name => Some([&[name.to_owned()][..], &block.arguments].concat().join(" ")),
    }
}

struct Builder {
    tree: Tree,
    open: Vec<usize>,
    directives: usize,
}

impl Builder {
    fn new() -> Self {
        Self {
            tree: Tree { blocks: vec![Block::default()], problems: Vec::new() },
            open: vec![0],
            directives: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open(words) => self.block(words),
            Step::Close if self.open.len() > 1 => drop(self.open.pop()),
            Step::Directive(words) => self.directive(words),
            Step::Close | Step::Problem(_) => {}
        }
    }

    fn block(&mut self, mut words: Vec<String>) {
        let parent = self.open.last().copied();
        if self.tree.blocks.len() >= BLOCKS_LIMIT {
            // Still counted as open, so that its end does not close the block around it.
            return self.open.extend(parent);
        }
        let name = if words.is_empty() { String::new() } else { words.remove(0) };
        self.open.push(self.tree.blocks.len());
        self.tree.blocks.push(Block { name, arguments: words, parent, directives: Vec::new() });
    }

    fn directive(&mut self, mut words: Vec<String>) {
        self.directives += 1;
        if words.is_empty() || self.directives > DIRECTIVES_LIMIT {
            return;
        }
        let directive = Directive { name: words.remove(0), arguments: words };
        if let Some(block) = self.open.last().and_then(|number| self.tree.blocks.get_mut(*number)) {
            block.directives.push(directive);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "user www; http { proxy_read_timeout 5s; proxy_set_header A 1; proxy_set_header B 2;
        server { listen 80; server_name api.example; location /v1 { proxy_pass http://back; }
        location /v2 { proxy_set_header C 3; proxy_read_timeout 9s; } } } }";

    #[test]
    fn values_come_down_from_the_nearest_block() {
        let tree = Tree::of_text(TEXT);
        let (one, _) = tree.named("proxy_pass").next().unwrap();
        assert_eq!(tree.place(one), "http, server api.example, location /v1");
        assert_eq!(
            (tree.value(one, "proxy_read_timeout"), tree.value(one, "user")),
            (Some("5s"), Some("www"))
        );
        assert_eq!(tree.holding(one, "proxy_set_header").len(), 2);
        let two = one + 1;
        assert_eq!(
            (tree.value(two, "proxy_read_timeout"), tree.holding(two, "proxy_set_header").len()),
            (Some("9s"), 1)
        );
        assert_eq!(tree.value(two, "proxy_pass"), None);
        assert!(tree.is_inside(two, "http") && !tree.is_inside(two, "stream"));
        assert_eq!(tree.of_kind("location").count(), 2);
    }

    #[test]
    fn too_many_closing_braces_close_nothing_else() {
        let tree = Tree::of_text("} } a 1; http { b 2; } } c 3;");
        assert_eq!(tree.place(tree.named("c").next().unwrap().0), "main");
        assert_eq!(tree.place(tree.named("b").next().unwrap().0), "http");
    }
}
