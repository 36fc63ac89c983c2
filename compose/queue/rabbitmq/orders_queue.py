"""Messages that RabbitMQ confirms, for the prober; the queue itself is the ledger. Needs aio-pika."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Literal

import aio_pika

import chaoslab

LOOK_EVERY_S = 0.05

Done = Literal["acked", "rejected", "indeterminate"]


class Publish(chaoslab.Journey):
    """Publishes the id on a connection of its own, as a client that starts anew would."""

    declared = False
    reading = asyncio.Lock()  # all sites are read at the same time, and who has got a message hides it from the others

    async def attempt(self, id: str) -> Done | tuple[Done, str]:
        try:
            connection = await self._connect()
        except OSError as refused:
            return "rejected", str(refused)
        async with connection:
            channel = await connection.channel(on_return_raises=True)  # RabbitMQ also confirms what no queue takes
            if not self.declared:
                await channel.declare_queue(self.settings["queue"], durable=True, arguments={"x-queue-type": "quorum"})
                self.declared = True
            message = aio_pika.Message(id.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, self.settings["queue"])
        return "acked"

    async def read_back(self, site: str) -> Iterable[str]:
        """What the queue holds, as the site's own node hands it out. All of it goes back."""
        async with await self._connect() as connection, self.reading:
            channel = await connection.channel()
            queue, got = await channel.get_queue(self.settings["queue"]), []
            while (message := await queue.get(fail=False)) is not None:
                got.append(message)
            if got:
                await got[-1].nack(multiple=True)
            while (await channel.get_queue(queue.name)).declaration_result.message_count < len(got):
                await asyncio.sleep(LOOK_EVERY_S)  # until all are there for the next site
            return [message.body.decode() for message in got]

    async def _connect(self) -> Any:
        """Not connect_robust, which reconnects by itself and so hides outages."""
        return await aio_pika.connect(f"amqp://guest:guest@{self.entry}/")
