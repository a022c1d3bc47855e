"""A random room: its size and paint, what stands in it and hangs on its walls, its lamps, and a camera."""

from __future__ import annotations

import math

from offramp.data.rooms._cupboards import cabinet, shelf, television, wardrobe
from offramp.data.rooms._draws import Draws, darker
from offramp.data.rooms._fixtures import ceiling_lamp, picture, window
from offramp.data.rooms._plan import Plan
from offramp.data.rooms._seats_and_tables import armchair, bed, carton, chair, floor_lamp, sofa, table
from offramp.data.rooms.scene import Camera, Light, Paint, Room, Scene

__all__ = ["random_scene"]

AT_WALL = (bed, sofa, shelf, cabinet, television, wardrobe, table, shelf, television)  # twice: twice as often
STANDING_ABOUT = (armchair, floor_lamp, carton, chair, carton)


def random_scene(*key: int) -> Scene:
    """The room of a key, such as (seed, split, number): the same one each time."""
    draw = Draws(*key)
    room = _room(draw)
    camera = _camera(draw, room)
    plan = Plan(draw, room, camera)
    for build in draw.shuffled(AT_WALL)[: draw.count(3, 5)]:
        plan.at_wall(build(draw))
    if draw.chance(0.75):
        _dining(draw, plan)
    for build in STANDING_ABOUT:
        if draw.chance(0.5):
            plan.anywhere(build(draw))
    for _ in range(draw.count(1, 2)):
        plan.on_wall(*window(draw), low=0.85)
    for _ in range(draw.count(1, 3)):
        plan.on_wall(*picture(draw), low=1.25)
    lamp, light = ceiling_lamp(draw, room)
    lights = [light]
    if draw.chance(0.6):
        cool = draw.between(0.25, 0.6)
        place = draw.choice((0.1, 0.9)) * room.width, 0.6 * room.height, draw.between(0.3, 0.8) * room.depth
        lights.append(Light(place, (0.85 * cool, 0.95 * cool, 1.1 * cool)))
    return Scene(
        room, camera, (*plan.pieces, lamp), tuple(lights), draw.between(0.3, 0.5), draw.count(0, 2**31)
    )


def _room(draw: Draws) -> Room:
    return Room(
        draw.between(3.2, 5.2), draw.between(2.35, 2.8), draw.between(3.6, 5.8),
        _floor(draw), Paint(draw.colour(0.06, 0.86, 0.98)), _walls(draw),
    )  # fmt: skip


def _floor(draw: Draws) -> Paint:
    pattern = draw.choice(("planks", "planks", "tiles", "speckles"))
    if pattern == "planks":
        wood = draw.wood()
        return Paint(wood.colour, darker(wood.colour, 0.45), pattern, draw.between(0.1, 0.18))
    if pattern == "tiles":
        colour = draw.colour(0.2, 0.5, 0.9)
        return Paint(colour, darker(colour, 0.6), pattern, draw.between(0.3, 0.6))
    colour = draw.colour(0.35, 0.35, 0.75)
    return Paint(colour, darker(colour, 0.75), pattern, 0.03)


def _walls(draw: Draws) -> tuple[Paint, Paint, Paint, Paint]:
    colour = draw.colour(draw.between(0.05, 0.35), 0.65, 0.92)
    pattern = draw.choice(("plain", "plain", "clouds", "stripes"))
    paint = Paint(colour, darker(colour, 0.93), pattern, draw.between(0.2, 0.6))
    accent = Paint(draw.colour(0.5, 0.45, 0.85)) if draw.chance(0.25) else paint
    return paint, paint, paint, accent


def _camera(draw: Draws, room: Room) -> Camera:
    place = draw.between(0.3, 0.7) * room.width, draw.between(1.2, 1.65), draw.between(0.15, 0.5)
    to_middle = math.atan2(room.width / 2 - place[0], room.depth)
    yaw, pitch = to_middle + math.radians(draw.between(-22, 22)), math.radians(draw.between(-15, 1))
    return Camera(place, (math.cos(yaw), math.sin(yaw)), (math.cos(pitch), math.sin(pitch)))


def _dining(draw: Draws, plan: Plan) -> None:
    """A table in the room, with a chair or two drawn up to it."""
    top = table(draw)
    place = plan.anywhere(top, turned=False)
    if place is None:
        return
    for side in draw.shuffled((-1, 1))[: draw.count(1, 2)]:
        seat = chair(draw)
        x = place[0] + draw.between(-0.25, 0.25) * top.width
        z = place[1] + side * (top.depth / 2 + draw.between(0.3, 0.4))
        angle = draw.between(-0.4, 0.4) + (0 if side > 0 else math.pi)
        plan.put(seat, x, z, (math.cos(angle), math.sin(angle)))
