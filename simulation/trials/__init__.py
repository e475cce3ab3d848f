"""Trials of the whole loop in virtual time: the production's equalizers and stations on a model of the broker.

Everything above the sockets is the production's own code: `EqualizerService`, the station's link, rack and keeper.
Below it are a virtual event loop for each process (`eventloop`), and a broker whose connections are late, stuck or torn
(`mqtt`). A seed draws hall and faults (`faults`); a witness holds what is done against the contract (`witness`).
"""
