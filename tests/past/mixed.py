"""Handlers of all kinds, which race each other."""

from __future__ import annotations

import asyncio

import happen_nb as happen

take_one = happen.put("lamp", lambda lamp: lamp - 1)
NODES = ("web", "phone", "desk", "mail", "book")


def noted(what):
    return lambda state: {**state, "log": [*state.get("log", []), what]}


def register(space):
    """Register the handlers, and return the node that they change most."""
    stock = space.create_node("stock", initial={"lamp": 5})
    nodes = [space.create_node(name) for name in NODES]
    sell(stock, *nodes[:3])
    follow(stock, *nodes[3:])
    return stock


def sell(stock, web, phone, desk):
    @web.on("buy")
    def plain(event):
        if stock.state.get("lamp") > 0:
            stock.state.set(take_one)
            web.broadcast("sold", "web")

    @phone.on("buy")
    async def async_with_tasks(event, context):
        left = stock.state.get("lamp")
        await asyncio.gather(stock.state.aset(take_one), phone.abroadcast("sold", "phone"))
        await context.sleep(5)
        await stock.state.aset(noted(await (await phone.asend("desk", "price", left))))

    @desk.on("price")
    def generator(event):
        yield 1
        stock.state.set(noted(["desk", event.payload, stock.state.get("lamp")]))
        return event.payload * 2


def follow(stock, mail, book):
    @mail.on("sold", retries=2, backoff=3)
    def repeated(event, context):
        mail.state.set(happen.put("tries", lambda tries: (tries or 0) + 1))
        if context.attempt < 2:
            raise ConnectionError
        mail.state.set(noted([event.payload, stock.state.get("lamp")]))

    @mail.on("sold", durable=True)
    def durable(event, context):
        context.once("card", dict, paid=True)
        mail.broadcast("paid", event.payload)

    @book.state.on("*")
    def applied(state, event, views):
        return {**state, event.type: [*state.get(event.type, []), views.stock.get("lamp")]}

    @book.on("paid")
    def waiting(event):
        stock.state.wait_for(lambda state: state["lamp"] < 5)
        book.broadcast("done", stock.state.get("lamp"))

    def watching(commit):
        if commit.after["lamp"] != commit.before["lamp"]:
            mail.broadcast("changed", commit.after["lamp"])

    stock.state.watch(watching)


def rush(space):
    space.broadcast("buy")
    space.broadcast("buy")
