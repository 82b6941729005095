"""The workflows on a virtual clock: no cloud, no waiting, and the engine that runs in production."""

from workflows import order

from flux_core.testing import FluxTest


def test_a_small_order_is_shipped_at_once():
    run = FluxTest(order).execute(order, {"sku": "tea", "total": 40})
    run.assert_completed()
    assert run.output("ship", str) == "parcel with tea"


def test_a_large_order_is_shipped_once_it_is_approved():
    flux = FluxTest(order)
    run = flux.execute(order, {"sku": "tea", "total": 400})
    run.assert_waiting("approved")
    flux.advance(days=1)
    run.signal("approved", {"yes": True, "by": "Ada"}).assert_completed()


def test_a_refused_order_gives_the_goods_back():
    flux = FluxTest(order)
    run = flux.execute(order, {"sku": "tea", "total": 400})
    run.signal("approved", {"yes": False, "by": "Ada"}).assert_rolled_back("Ada refused", step="charge")


def test_an_order_that_nobody_looks_at_gives_the_goods_back_after_two_days():
    flux = FluxTest(order)
    run = flux.execute(order, {"sku": "tea", "total": 400})
    flux.advance(days=2)
    run.assert_rolled_back(step="approval")


def test_a_provider_that_is_down_for_a_moment_is_asked_again():
    flux = FluxTest(order)
    flux.stub("charge", sequence=[TimeoutError("no answer"), "ch_1"])
    run = flux.execute(order, {"sku": "tea", "total": 40})
    flux.run_until_idle()
    run.assert_completed()
    run.assert_step("charge", attempts=2)
