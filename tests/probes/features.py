"""ClientHellos that lack what the gateway can be told to demand."""


def hello(**offer):
    def probe(client):
        client.hello(**offer)

    return probe


def whole(client):
    client.until_verified()
    client.end()
    client.request()
    return "finished"


PROBES = {
    "with_ems_and_etm": whole,
    "without_ems": hello(ems=False),
    "without_etm": hello(etm=False),
    "without_either": hello(ems=False, etm=False),
}
