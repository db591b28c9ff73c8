//! What a network and processes may do, one scene for each.

use std::time::Duration;

use lockkeeper_test_support::{seeded, signal, stop, until};
use rand::Rng;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    LEASE,
    delay::{DelayLine, Receiver},
    network::{Fault, Link, Side, skip},
    scene::{Route, Scene, play},
};

/// How long a fault takes that is shorter than the lease, on a machine that is not too slow.
const BRIEF: Duration = Duration::from_millis(800);

/// Begins a fault of the packets that one side receives, and waits until another client is granted the lock.
async fn until_another_is_granted(scene: &mut Scene, receiver: Side, fault: Fault) {
    scene.network.begin(receiver, fault);
    scene.another_is_granted().await;
    scene.holder_has_lost_its_lock().await;
    assert!(scene.network.met() > 0, "no packet met the fault");
}

/// Begins a fault of the packets that one side receives, and ends it soon.
async fn briefly(scene: &mut Scene, receiver: Side, fault: Fault) {
    scene.network.begin(receiver, fault);
    sleep(BRIEF).await;
    until("a packet meets the fault", async || scene.network.met() > 0).await;
    scene.network.heal();
}

#[test]
fn fifth_of_all_packets_is_lost() {
    play(Route::Direct, async |scene| {
        for receiver in [Side::Near, Side::Far] {
            scene.network.begin(receiver, Fault::Loss);
        }
        // The holder keeps its lock for longer than the lease, if the loss lets it.
        sleep(LEASE + BRIEF).await;
        assert!(scene.network.met() > 0, "no packet met the fault");
    });
}

#[test]
fn nothing_arrives_at_the_manager() {
    play(Route::Direct, async |scene| {
        until_another_is_granted(scene, Side::Near, Fault::Silence).await;
    });
}

#[test]
fn nothing_arrives_at_the_clients() {
    play(Route::Direct, async |scene| {
        until_another_is_granted(scene, Side::Far, Fault::Silence).await;
    });
}

#[test]
fn packets_in_one_direction_are_lost_briefly() {
    play(Route::Direct, async |scene| {
        for receiver in [Side::Near, Side::Far] {
            briefly(scene, receiver, Fault::Silence).await;
        }
    });
}

#[test]
fn link_is_down_briefly() {
    play(Route::Direct, async |scene| {
        for side in [Side::Near, Side::Far] {
            scene.network.set_link(side, Link::Down);
            sleep(BRIEF).await;
            scene.network.heal();
        }
    });
}

#[test]
fn link_is_down_for_longer_than_the_lease() {
    play(Route::Direct, async |scene| {
        scene.network.set_link(Side::Near, Link::Down);
        scene.another_is_granted().await;
        scene.holder_has_lost_its_lock().await;
    });
}

#[test]
fn clients_get_resets_and_the_manager_does_not() {
    play(Route::Direct, async |scene| {
        briefly(scene, Side::Near, Fault::Reset).await;
    });
}

#[test]
fn manager_gets_resets_and_the_clients_do_not() {
    play(Route::Direct, async |scene| {
        briefly(scene, Side::Far, Fault::Reset).await;
    });
}

#[test]
fn both_sides_get_resets() {
    play(Route::Direct, async |scene| {
        // The holder is connected.
        if scene.network.reset_both() == 0 {
            skip("resets of both sides: this kernel cannot end connections (INET_DIAG_DESTROY)");
        }
    });
}

#[test]
fn holder_is_stopped_for_longer_than_the_lease() {
    play(Route::Direct, async |scene| {
        for _ in 0..2 {
            scene.holder_keeps_its_lock().await;
            stop(scene.holder()).await;
            scene.another_is_granted().await;
            signal(scene.holder(), Signal::CONT);
            scene.holder_has_lost_its_lock().await;
        }
    });
}

#[test]
fn holder_that_was_stopped_finds_no_network() {
    play(Route::Direct, async |scene| {
        for _ in 0..2 {
            scene.holder_keeps_its_lock().await;
            stop(scene.holder()).await;
            // So it does not learn of the end of its session from the manager.
            scene.network.begin(Side::Far, Fault::Silence);
            scene.another_is_granted().await;
            signal(scene.holder(), Signal::CONT);
            scene.holder_has_lost_its_lock().await;
            scene.network.heal();
        }
    });
}

#[test]
fn manager_is_stopped_for_longer_than_the_lease() {
    play(Route::Direct, async |scene| {
        stop(scene.manager()).await;
        sleep(LEASE * 3 / 2).await;
        signal(scene.manager(), Signal::CONT);
        scene.holder_has_lost_its_lock().await;
    });
}

/// The delay line of a scene that has one.
fn line(scene: &Scene) -> &DelayLine {
    scene.delay.as_ref().expect("the route has a delay line")
}

#[test]
fn all_bytes_are_delayed() {
    play(Route::Delayed, async |scene| {
        let set = |scene: &Scene, delay| {
            line(scene).set(Receiver::Manager, delay);
            line(scene).set(Receiver::Clients, delay);
        };
        set(scene, LEASE / 8);
        sleep(LEASE).await;
        scene.holder_keeps_its_lock().await;
        set(scene, 2 * LEASE);
        scene.another_is_granted().await;
        scene.holder_has_lost_its_lock().await;
        set(scene, Duration::ZERO);
    });
}

/// A client that counted its lease from when an answer came would consider it valid for too long.
#[test]
fn answers_are_late_when_nothing_arrives_at_the_manager_any_more() {
    play(Route::Delayed, async |scene| {
        line(scene).set(Receiver::Clients, LEASE / 2);
        // A beat is answered meanwhile.
        sleep(LEASE / 5 + LEASE / 40).await;
        scene.network.begin(Side::Near, Fault::Silence);
        scene.another_is_granted().await;
        scene.holder_has_lost_its_lock().await;
        line(scene).set(Receiver::Clients, Duration::ZERO);
    });
}

#[test]
fn faults_come_in_any_order() {
    play(Route::Direct, async |scene| {
        let mut random = seeded();
        for _ in 0..6 {
            let side = [Side::Near, Side::Far][random.random_range(0..2)];
            match random.random_range(0..6) {
                0 => scene.network.begin(side, Fault::Loss),
                1 => scene.network.begin(side, Fault::Silence),
                2 => scene.network.begin(side, Fault::Reset),
                3 => scene.network.set_link(side, Link::Down),
                4 => stop(scene.holder()).await,
                _ => _ = scene.network.reset_both(),
            }
            // Shorter and longer than the lease.
            sleep(LEASE.mul_f64(random.random_range(0.1..1.3))).await;
            signal(scene.holder(), Signal::CONT);
            if random.random_range(0..4) > 0 {
                scene.network.heal();
            }
            // The clients connect again, or do not have the time to.
            sleep(BRIEF.mul_f64(random.random())).await;
        }
    });
}
