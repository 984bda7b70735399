//! A place follows a window through every change of its rows, and costs one piece of work at a time.

use graph::{Builder, Executor, Graph, Initial, Keep, Shape};
use market::series::Window;

use super::*;

const WINDOW: usize = 5;

fn graph() -> Graph {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[WINDOW, 2])).unwrap();
    let mut state =
        |name: &str, dims: &[usize]| b.state(name, Shape::fixed(dims), Initial::Glorot, true).unwrap();
    let (w, u, bias) = (state("w", &[2, 12]), state("u", &[3, 12]), state("b", &[12]));
    let h = b.lstm(x, w, u, bias, Keep::Last).unwrap();
    b.output("prediction", h).unwrap();
    b.finish().unwrap()
}

fn slides(places: usize) -> Slides {
    let cpu = cpu::Cpu::new(cpu::CpuOptions::default()).unwrap();
    Slides::new(cpu.prepare_sliding(&graph(), WINDOW, places).unwrap(), WINDOW, places)
}

#[test]
fn places_are_lent_and_given_back() {
    let mut slides = slides(2);
    let (one, two) = (slides.place().unwrap(), slides.place().unwrap());
    assert!(slides.place().is_none() && one.index != two.index);
    slides.give_back(one);
    assert!(slides.place().is_some() && slides.place().is_none());
}

#[test]
fn a_live_window_that_is_not_full_needs_no_work() {
    let mut slides = slides(1);
    let mut place = slides.place().unwrap();
    let live = Live::new(Window::new(WINDOW, 2).unwrap(), 0, 0);
    assert_eq!(slides.prepare(&mut place, &live, true), Ok(false));
    assert_eq!(slides.newest(&mut place, &live), Ok(None), "no row has come");
}
