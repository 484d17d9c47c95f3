//! Places of fields: paths such as `a.b[2].c` in a struct type, and structs embedded in it.

use super::clang::{Cursor, Type};
use super::declarations::Declarations;
use std::collections::BTreeSet;

/// Where a path leads: first byte, and number of bytes that hold any bit of it.
pub(super) fn place(record: Type<'_>, path: &str) -> Result<(u64, u64), String> {
    let mut ty = record;
    let mut bits = 0;
    let mut width = None;
    for component in path.split('.') {
        let (name, indices) = split_indices(component)?;
        let (at, field) =
            find(ty, name).ok_or_else(|| format!("{} has no field `{name}`", ty.spelling()))?;
        bits += at;
        ty = field.ty();
        width = field.bits().1;
        for index in indices {
            let Some((element, count)) = ty.elements() else {
                return Err(format!("`{name}` is not an array of known length"));
            };
            if index >= count {
                return Err(format!("`{name}` has {count} elements, no number {index}"));
            }
            let size = element.size_and_align().map_or(0, |(size, _)| size);
            bits += index * size * 8;
            ty = element;
        }
    }
    let width = match width {
        Some(width) => width,
        None => {
            // An array without a length has no size of its own; one element stands for all.
            let size = ty.unbounded().unwrap_or(ty).size_and_align();
            size.map(|(size, _)| size)
                .filter(|&s| s > 0)
                .ok_or("it has no known size")?
                * 8
        }
    };
    let (first, last) = (bits / 8, (bits + width).div_ceil(8));
    Ok((first, last - first))
}

fn split_indices(component: &str) -> Result<(&str, Vec<u64>), String> {
    let mut parts = component.split('[');
    let name = parts.next().unwrap_or("");
    let indices = parts.map(|part| part.strip_suffix(']').and_then(|n| n.parse().ok()));
    match indices.collect::<Option<Vec<u64>>>() {
        Some(indices) if !name.is_empty() => Ok((name, indices)),
        _ => Err(format!("`{component}` is not a field or an array element")),
    }
}

/// A member by name, looking through nameless structs and unions; with its first bit.
fn find<'u>(ty: Type<'u>, name: &str) -> Option<(u64, Cursor<'u>)> {
    for field in ty.fields() {
        let Some(at) = field.bits().0 else { continue };
        if field.name() == name {
            return Some((at, field));
        }
        if is_nameless(field) {
            if let Some((inner, found)) = find(field.ty(), name) {
                return Some((at + inner, found));
            }
        }
    }
    None
}

fn is_nameless(field: Cursor<'_>) -> bool {
    let name = field.name();
    // libclang describes them instead: `union S::(anonymous at file.h:1:2)`.
    name.is_empty() || name.contains('(')
}

/// Names of the fields of a struct, for errors.
pub(super) fn names(ty: Type<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for field in ty.fields() {
        if is_nameless(field) {
            all.extend(names(field.ty()));
        } else {
            all.push(field.name());
        }
    }
    all
}

/// Where a struct's last member begins that has no fixed end: `T a[]` or `T a[1]`, also as the end
/// of a struct that is itself the last member.
pub(super) fn tail(ty: Type<'_>) -> Option<u64> {
    let last = *ty.fields().last()?;
    let at = last.bits().0? / 8;
    let member = last.ty();
    match member.elements() {
        Some((_, count)) => (count <= 1).then_some(at),
        None if member.unbounded().is_some() => Some(at),
        None => Some(at + tail(member)?),
    }
}

/// Members whose type is one of `wanted`, with byte offsets; the outermost ones only, and none
/// below the members named in `ruled`, whose own rule comes first anyway.
pub(super) fn embedded(
    declared: &Declarations<'_>,
    ty: Type<'_>,
    wanted: &BTreeSet<&str>,
    ruled: &BTreeSet<&str>,
) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for field in ty.fields() {
        let Some(bits) = field.bits().0 else { continue };
        if !ruled.contains(field.name().as_str()) {
            member(declared, field.ty(), bits / 8, wanted, &mut all);
        }
    }
    all
}

fn descend<'u>(
    declared: &Declarations<'u>,
    ty: Type<'u>,
    at: u64,
    wanted: &BTreeSet<&str>,
    all: &mut Vec<(String, u64)>,
) {
    for field in ty.fields() {
        // Bit-fields are no records; other members start at whole bytes.
        let Some(bits) = field.bits().0 else { continue };
        member(declared, field.ty(), at + bits / 8, wanted, all);
    }
}

fn member<'u>(
    declared: &Declarations<'u>,
    ty: Type<'u>,
    at: u64,
    wanted: &BTreeSet<&str>,
    all: &mut Vec<(String, u64)>,
) {
    if let Some((element, count)) = ty.elements() {
        // Most arrays are of scalars: look at one element before walking over thousands.
        let mut first = Vec::new();
        member(declared, element, 0, wanted, &mut first);
        let size = element.size_and_align().map_or(0, |(size, _)| size);
        for i in 0..if first.is_empty() { 0 } else { count } {
            let moved = first.iter().map(|(n, o)| (n.clone(), at + i * size + o));
            all.extend(moved);
        }
        return;
    }
    match declared.name_of(ty).filter(|name| wanted.contains(name)) {
        Some(name) => all.push((name.to_owned(), at)),
        None => descend(declared, ty, at, wanted, all),
    }
}
