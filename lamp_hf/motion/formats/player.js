"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const { motions, meshes, look, span } = JSON.parse(find("motion").textContent);
  const files = JSON.parse(find("files").textContent);
  const canvas = find("canvas"), panels = [...find("panels").children], scenes = [...find("scenes").children];
  const play = find("play"), scrub = find("scrub"), clock = find("clock"), notice = find("notice");
  const loop = find("loop"), trails = find("trails"), ghosts = find("ghosts"), speed = find("speed"), style = find("style");

  // ---- the motions -----------------------------------------------------------------------------------------------

  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  // Numbers are little-endian, like every machine that runs a browser.
  const shorts = (text) => new Int16Array(bytesOf(text).buffer);

  // Positions are 16-bit integers in steps of `unit` meters from `origin`; the joints of each frame are followed by the
  // camera's target. Rotations are the x, y and z of unit quaternions whose w is not negative.
  for (const motion of motions) {
    motion.steps = shorts(motion.positions);
    motion.quaternions = motion.turns ? shorts(motion.turns) : null;
    motion.numJoints = motion.radii.length;
    motion.lastFrame = motion.numFrames - 1;
    motion.duration = motion.lastFrame / motion.fps;
  }
  const at = (motion, frame, joint, axis) =>
    motion.origin[axis] + motion.unit * motion.steps[(frame * (motion.numJoints + 1) + joint) * 3 + axis];
  const duration = Math.max(...motions.map((motion) => motion.duration));

  // Joints and camera target, [x, y, z] each, at a place between two frames.
  function pointsAt(motion, place) {
    const before = Math.floor(place), after = Math.min(before + 1, motion.lastFrame), share = place - before;
    const points = [];
    for (let joint = 0; joint <= motion.numJoints; joint++) {
      points.push([0, 1, 2].map((axis) =>
        at(motion, before, joint, axis) * (1 - share) + at(motion, after, joint, axis) * share));
    }
    return points;
  }

  function quaternionAt(motion, frame, slot) {
    const start = (frame * motion.numTurns + slot) * 3, scale = 1 / 32767;
    const [x, y, z] = [0, 1, 2].map((axis) => motion.quaternions[start + axis] * scale);
    return [x, y, z, Math.sqrt(Math.max(0, 1 - x * x - y * y - z * z))];
  }

  // The rows of the matrices that move the vertices of the rest pose with each joint.
  function movesAt(motion, place, points) {
    const before = Math.floor(place), after = Math.min(before + 1, motion.lastFrame), share = place - before;
    const rest = meshes[motion.mesh].rest, rows = new Float32Array(12 * motion.numJoints), turns = [];
    for (let slot = 0; slot < motion.numTurns; slot++) {
      const a = quaternionAt(motion, before, slot), b = quaternionAt(motion, after, slot);
      const sign = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3] < 0 ? -1 : 1;
      const q = a.map((value, k) => value * (1 - share) + sign * b[k] * share), length = Math.hypot(...q) || 1;
      const [x, y, z, w] = q.map((value) => value / length);
      turns.push([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                  [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                  [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]);
    }
    for (let joint = 0; joint < motion.numJoints; joint++) {
      const turn = turns[motion.turnOf[joint]], [x, y, z] = rest[joint];
      for (let axis = 0; axis < 3; axis++) {
        const [a, b, c] = turn[axis];
        rows.set([a, b, c, points[joint][axis] - (a * x + b * y + c * z)], 12 * joint + 4 * axis);
      }
    }
    return rows;
  }

  // Positions and radii of the joints and of the head's ball.
  function ballsAt(motion, points) {
    const { head, radii, numJoints } = motion, balls = new Float32Array(4 * (numJoints + 1));
    for (let joint = 0; joint < numJoints; joint++) balls.set([...points[joint], radii[joint]], 4 * joint);
    const top = points[head.joint], way = top.map((value, axis) => value - points[head.parent][axis]);
    const length = Math.hypot(...way) || 1;
    balls.set([...top.map((value, axis) => value + way[axis] / length * head.rise), head.radius], 4 * numJoints);
    return balls;
  }

  // ---- WebGL -----------------------------------------------------------------------------------------------------

  const LIGHT = `
    uniform vec3 uLight, uEye, uColor;
    uniform float uAlpha;
    uniform vec4 uTone;   // brightness of surfaces that face up and down, strength of the light, wrap
    uniform vec3 uGloss;  // rim, shine, sharpness
    in vec3 vPosition, vNormal;
    out vec4 color;
    void main() {
      vec3 normal = normalize(vNormal), toward = normalize(uEye - vPosition);
      float lit = max(0.0, (dot(normal, uLight) + uTone.w) / (1.0 + uTone.w));
      float bright = mix(uTone.y, uTone.x, 0.5 + 0.5 * normal.y) + uTone.z * lit;
      float white = uGloss.y * pow(max(0.0, dot(normal, normalize(uLight + toward))), uGloss.z)
                  + uGloss.x * pow(clamp(1.0 - dot(normal, toward), 0.0, 1.0), 3.0);
      color = vec4(uColor * bright + white, 1.0) * uAlpha;
    }`;
  // The shadow is drawn on a map of the floor: a point's shadow is where the light through it meets the floor.
  const PLACE = `
    uniform mat4 uView;
    uniform vec3 uLight, uMiddle;  // uMiddle: x and z of the middle of the map, height of the floor
    uniform vec2 uMap;             // half the side of the map in meters, or 0 for a picture; height of a half shadow
    out vec3 vPosition, vNormal;
    out float vShadow;
    void place(vec3 position, vec3 normal) {
      vPosition = position;
      vNormal = normal;
      float height = max(0.0, position.y - uMiddle.z);
      vShadow = 1.0 / (1.0 + pow(height / uMap.y, 2.0));
      vec2 flat_ = position.xz - uLight.xz * height / uLight.y - uMiddle.xy;
      gl_Position = uMap.x > 0.0 ? vec4(flat_ / uMap.x, 0.0, 1.0) : uView * vec4(position, 1.0);
    }`;
  const SKIN = `
    in vec3 aPosition, aNormal;
    in vec4 aJoints, aWeights;
    uniform vec4 uMoves[90];
    uniform float uUnit;
    ${PLACE}
    void main() {
      mat3x4 rows = mat3x4(0.0);
      for (int k = 0; k < 4; k++) {
        int first = 3 * int(aJoints[k] + 0.5);
        rows += aWeights[k] * mat3x4(uMoves[first], uMoves[first + 1], uMoves[first + 2]);
      }
      place(vec4(aPosition * uUnit, 1.0) * rows, vec4(aNormal, 0.0) * rows);
    }`;
  const ROD = `
    in vec4 aPoint;  // direction on a ball, and 1 at the far end of the rod
    in vec2 aEnds;
    uniform vec4 uBalls[32];
    uniform float uSize;
    ${PLACE}
    void main() {
      vec4 start = uBalls[int(aEnds.x + 0.5)], end = uBalls[int(aEnds.y + 0.5)];
      vec3 way = end.xyz - start.xyz;
      float size = length(way);
      vec3 along = size > 1e-5 ? way / size : vec3(0.0, 1.0, 0.0);
      vec3 across = normalize(cross(along, abs(along.y) < 0.9 ? vec3(0.0, 1.0, 0.0) : vec3(1.0, 0.0, 0.0)));
      vec3 normal = aPoint.x * across + aPoint.y * along + aPoint.z * cross(across, along);
      place(mix(start.xyz, end.xyz, aPoint.w) + normal * mix(start.w, end.w, aPoint.w) * uSize, normal);
    }`;
  const SHADOW = `
    in float vShadow;
    out vec4 color;
    void main() { color = vec4(vShadow); }`;
  const FLOOR = [`
    in vec2 aCorner;
    uniform mat4 uView;
    uniform vec3 uMiddle;
    uniform float uRadius;
    out vec2 vPlace;
    void main() {
      vPlace = aCorner * uRadius;
      gl_Position = uView * vec4(vPlace.x + uMiddle.x, uMiddle.z, vPlace.y + uMiddle.y, 1.0);
    }`, `
    in vec2 vPlace;
    uniform vec3 uMiddle, uFloor, uGrid;
    uniform float uRadius, uMapSize, uDark, uAlpha;
    uniform sampler2D uShadow;
    out vec4 color;
    void main() {
      vec2 place = (vPlace + uMiddle.xy) * 2.0;  // a line every half meter
      vec2 width = fwidth(place);
      vec2 line = abs(fract(place - 0.5) - 0.5) / width;
      float grid = (1.0 - smoothstep(0.15, 0.95, min(line.x, line.y))) * clamp(0.35 / max(width.x, width.y), 0.0, 1.0);
      vec2 spot = vPlace / uMapSize * 0.5 + 0.5;
      float shadow = 0.0, total = 0.0;
      for (int x = -3; x <= 3; x++) for (int y = -3; y <= 3; y++) {
        float weight = exp(-float(x * x + y * y) / 5.0);
        shadow += weight * texture(uShadow, spot + vec2(x, y) * 0.0028).r;
        total += weight;
      }
      float fade = 1.0 - smoothstep(0.72, 1.0, length(vPlace) / uRadius);
      color = vec4(mix(uFloor, uGrid, grid) * (1.0 - uDark * shadow / total), 1.0) * fade * uAlpha;
    }`];
  // A line through the positions of a joint: one instance for each step between frames.
  const LINE = [`
    in vec3 aStart, aEnd;
    in vec2 aCorner;
    uniform mat4 uView;
    uniform vec4 uTime;   // frame now, frames that are shown before it, frames between two points
    uniform vec3 uScreen; // width and height, and thickness of the line, in pixels
    uniform vec4 uMiddle; // x, z, height to draw at (or none, if above 1e8), and the radius to show, or 0
    uniform vec3 uBehind, uAhead;
    out vec4 vColor;
    void main() {
      vec3 start = aStart, end = aEnd;
      if (uMiddle.z < 1e8) { start.y = uMiddle.z; end.y = uMiddle.z; }
      vec4 a = uView * vec4(start, 1.0), b = uView * vec4(end, 1.0), here = mix(a, b, aCorner.x);
      vec2 way = (b.xy / b.w - a.xy / a.w) * uScreen.xy;
      vec2 side = length(way) > 1e-4 ? normalize(vec2(-way.y, way.x)) : vec2(0.0, 1.0);
      float frame = (float(gl_InstanceID) + aCorner.x) * uTime.z, age = uTime.x - frame;
      float shown = uTime.y > 0.0 ? (age >= -0.5 ? clamp(1.0 - age / uTime.y, 0.0, 1.0) : 0.0) : 1.0;
      if (uMiddle.w > 0.0) {
        vec3 world = mix(start, end, aCorner.x);
        shown *= 1.0 - smoothstep(0.75 * uMiddle.w, uMiddle.w, distance(world.xz, uMiddle.xy));
      }
      vColor = vec4(age >= 0.0 ? uBehind : uAhead, 1.0) * shown;
      here.xy += side * aCorner.y * uScreen.z / uScreen.xy * here.w;
      gl_Position = a.w > 0.05 && b.w > 0.05 ? here : vec4(0.0, 0.0, 2.0, 1.0);
    }`, `
    in vec4 vColor;
    out vec4 color;
    void main() { color = vColor; }`];

  const MAP_SIDE = 512, MAP_M = 2.6, FLOOR_M = 3.2;

  // Everything that lives on the graphics card. Browsers keep about 16 contexts, so a player that is out of sight gives
  // its context back, and gets a new one when it is visible again.
  function createScene() {
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: false, premultipliedAlpha: true });
    if (!gl) return null;

    function program(vertex, fragment) {
      const made = gl.createProgram();
      for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
        const shader = gl.createShader(kind);
        gl.shaderSource(shader, `#version 300 es\nprecision highp float;\nprecision highp int;\n${text}`);
        gl.compileShader(shader);
        if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
        gl.attachShader(made, shader);
      }
      gl.linkProgram(made);
      if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
      const uniforms = {}, attributes = {};
      for (let k = gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); k-- > 0;) {
        const name = gl.getActiveUniform(made, k).name.replace("[0]", "");
        uniforms[name] = gl.getUniformLocation(made, name);
      }
      for (let k = gl.getProgramParameter(made, gl.ACTIVE_ATTRIBUTES); k-- > 0;) {
        const { name } = gl.getActiveAttrib(made, k);
        attributes[name] = gl.getAttribLocation(made, name);
      }
      return { made, uniforms, attributes };
    }
    function buffer(values, target = gl.ARRAY_BUFFER) {
      gl.bindVertexArray(null);  // which would take the buffer of indices
      const made = gl.createBuffer();
      gl.bindBuffer(target, made);
      gl.bufferData(target, values, gl.STATIC_DRAW);
      return made;
    }
    function attribute(program, name, size, type, { normalized = false, stride = 0, offset = 0, divisor = 0 } = {}) {
      const place = program.attributes[name];
      if (place === undefined) return;
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, type, normalized, stride, offset);
      gl.vertexAttribDivisor(place, divisor);
    }
    function set(program, values) {
      for (const [name, value] of Object.entries(values)) {
        const place = program.uniforms[name];
        if (place === undefined) continue;
        if (typeof value === "number") gl.uniform1f(place, value);
        else if (value.length === 16 && name === "uView") gl.uniformMatrix4fv(place, false, value);
        else if (name === "uMoves" || name === "uBalls") gl.uniform4fv(place, value);
        else gl[`uniform${value.length}fv`](place, value);
      }
    }

    const programs = {
      skin: program(SKIN, LIGHT), skinShadow: program(SKIN, SHADOW), rod: program(ROD, LIGHT),
      rodShadow: program(ROD, SHADOW), floor: program(...FLOOR), line: program(...LINE),
    };

    const corners = buffer(new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]));
    const segment = buffer(new Float32Array([0, -1, 1, -1, 0, 1, 1, 1]));
    const floorArray = gl.createVertexArray();
    gl.bindVertexArray(floorArray);
    gl.bindBuffer(gl.ARRAY_BUFFER, corners);
    attribute(programs.floor, "aCorner", 2, gl.FLOAT);

    // The mannequins. The layout of the buffer is the one of `_mesh` in html.py.
    const bodies = meshes.map((mesh) => {
      const count = mesh.numVertices, data = bytesOf(mesh.data), vertices = buffer(data.subarray(0, 17 * count));
      const arrays = ["skin", "skinShadow"].map((name) => {
        const array = gl.createVertexArray();
        gl.bindVertexArray(array);
        gl.bindBuffer(gl.ARRAY_BUFFER, vertices);
        attribute(programs[name], "aPosition", 3, gl.SHORT);
        attribute(programs[name], "aNormal", 3, gl.BYTE, { normalized: true, offset: 6 * count });
        attribute(programs[name], "aJoints", 4, gl.UNSIGNED_BYTE, { offset: 9 * count });
        attribute(programs[name], "aWeights", 4, gl.UNSIGNED_BYTE, { normalized: true, offset: 13 * count });
        return array;
      });
      const indices = buffer(data.slice(17 * count), gl.ELEMENT_ARRAY_BUFFER);
      for (const array of arrays) { gl.bindVertexArray(array); gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, indices); }
      return arrays;
    });

    // The rods of the skeleton: two half balls and the surface between them.
    const points = [], faces = [], around = 16, rows = [-1, -0.75, -0.5, -0.25, 0, 0, 0.25, 0.5, 0.75, 1];
    rows.forEach((row, k) => {
      for (let step = 0; step < around; step++) {
        const angle = 2 * Math.PI * step / around, rise = row * Math.PI / 2, following = (step + 1) % around;
        points.push(Math.cos(rise) * Math.cos(angle), Math.sin(rise), Math.cos(rise) * Math.sin(angle), k > 4 ? 1 : 0);
        if (k) {
          const [a, b, c, d] = [(k - 1) * around + step, (k - 1) * around + following, k * around + following,
                                k * around + step];
          faces.push(a, b, c, a, c, d);
        }
      }
    });
    const rodPoints = buffer(new Float32Array(points)), rodFaces = new Uint16Array(faces);
    const SIDES = ["center", "left", "right"];
    const skeletons = motions.map((motion) => {
      const parts = [...motion.limbs, [motion.numJoints, motion.numJoints, "center"]];
      parts.sort((a, b) => SIDES.indexOf(a[2]) - SIDES.indexOf(b[2]));
      const ends = buffer(new Float32Array(parts.flatMap(([a, b]) => [a, b])));
      const indices = buffer(rodFaces, gl.ELEMENT_ARRAY_BUFFER);
      const arrays = ["rod", "rodShadow"].map((name) => SIDES.map((side) => {
        const array = gl.createVertexArray(), first = parts.findIndex((part) => part[2] === side);
        gl.bindVertexArray(array);
        gl.bindBuffer(gl.ARRAY_BUFFER, rodPoints);
        attribute(programs[name], "aPoint", 4, gl.FLOAT);
        gl.bindBuffer(gl.ARRAY_BUFFER, ends);
        attribute(programs[name], "aEnds", 2, gl.FLOAT, { offset: 8 * first, divisor: 1 });
        gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, indices);
        return [array, parts.filter((part) => part[2] === side).length];
      }));
      return arrays;
    });

    // Lines through the root (the path on the floor), and through hands and feet.
    const lines = motions.map((motion) => {
      const stride = Math.ceil(motion.numFrames / 4000);
      return [[0, "path"], ...motion.trails].map(([joint, side]) => {
        const places = [];
        for (let frame = 0; frame <= motion.lastFrame; frame += stride) {
          places.push(at(motion, frame, joint, 0), at(motion, frame, joint, 1), at(motion, frame, joint, 2));
        }
        const array = gl.createVertexArray();
        const points = buffer(new Float32Array(places));
        gl.bindVertexArray(array);
        gl.bindBuffer(gl.ARRAY_BUFFER, points);
        attribute(programs.line, "aStart", 3, gl.FLOAT, { divisor: 1 });
        attribute(programs.line, "aEnd", 3, gl.FLOAT, { offset: 12, divisor: 1 });
        gl.bindBuffer(gl.ARRAY_BUFFER, segment);
        attribute(programs.line, "aCorner", 2, gl.FLOAT);
        return { array, side, stride, count: Math.max(0, places.length / 3 - 1) };
      });
    });
    gl.bindVertexArray(null);

    const map = gl.createTexture(), target = gl.createFramebuffer();
    gl.bindTexture(gl.TEXTURE_2D, map);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, MAP_SIDE, MAP_SIDE, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    for (const [name, value] of [[gl.TEXTURE_MIN_FILTER, gl.LINEAR], [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
                                 [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE]]) {
      gl.texParameteri(gl.TEXTURE_2D, name, value);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, map, 0);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);

    function drawBody(number, place, points, common, shadow, alpha) {
      const motion = motions[number];
      if (style.value === "mannequin" && motion.quaternions) {
        const mesh = meshes[motion.mesh], program = shadow ? programs.skinShadow : programs.skin;
        gl.useProgram(program.made);
        set(program, { ...common, uMoves: movesAt(motion, place, points), uUnit: mesh.unit, uAlpha: alpha });
        gl.bindVertexArray(bodies[motion.mesh][shadow ? 1 : 0]);
        let first = 0;
        mesh.counts.forEach((count, side) => {
          set(program, { uColor: look.mannequin[side] });
          gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_SHORT, 2 * first);
          first += count;
        });
      } else {
        const program = shadow ? programs.rodShadow : programs.rod;
        gl.useProgram(program.made);
        set(program, { ...common, uBalls: ballsAt(motion, points), uAlpha: alpha });
        skeletons[number][shadow ? 1 : 0].forEach(([array, count], side) => {
          gl.bindVertexArray(array);
          // Rods of different sides end in the same joint; without a difference in size, their colors would flicker.
          set(program, { uColor: look.skeleton[side], uSize: 1 - 0.04 * side });
          gl.drawElementsInstanced(gl.TRIANGLES, rodFaces.length, gl.UNSIGNED_SHORT, 0, count);
        });
      }
    }

    // Draw one motion into a part of the canvas: left, bottom, width and height in pixels.
    function drawPanel(number, box, time, view, ratio) {
      const motion = motions[number], place = Math.min(time * motion.fps, motion.lastFrame);
      const points = pointsAt(motion, place), focus = points.pop();
      const { matrix, eye } = view(motion, focus, box);
      const middle = [focus[0], focus[2], motion.floor];
      const around = motion.home.azimuth + look.lightAzimuth, level = Math.cos(look.lightElevation);
      const light = [Math.sin(around) * level, Math.sin(look.lightElevation), Math.cos(around) * level];
      const common = { uLight: light, uMiddle: middle, uTone: look.tone, uGloss: look.gloss, uEye: eye, uView: matrix };

      gl.bindFramebuffer(gl.FRAMEBUFFER, target);
      gl.viewport(0, 0, MAP_SIDE, MAP_SIDE);
      gl.disable(gl.SCISSOR_TEST);
      gl.disable(gl.DEPTH_TEST);
      gl.disable(gl.CULL_FACE);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.enable(gl.BLEND);
      gl.blendEquation(gl.MAX);
      drawBody(number, place, points, { ...common, uMap: [MAP_M, look.shadowHeight] }, true, 1);
      gl.bindFramebuffer(gl.FRAMEBUFFER, null);

      gl.viewport(...box);
      gl.enable(gl.SCISSOR_TEST);
      gl.scissor(...box);
      gl.clearColor(...look.background, 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.blendEquation(gl.FUNC_ADD);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      const { floor, line } = programs;
      gl.useProgram(floor.made);
      set(floor, { uView: matrix, uMiddle: middle, uRadius: FLOOR_M, uMapSize: MAP_M, uFloor: look.floor, uGrid: look.grid,
                   uDark: look.shadow, uAlpha: eye[1] > motion.floor ? 1 : 0.35 });
      gl.bindVertexArray(floorArray);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);

      const drawLine = ({ array, stride, count }, values) => {
        gl.useProgram(line.made);
        set(line, { uView: matrix, uScreen: [box[2], box[3], values.thickness * ratio], ...values.uniforms,
                    uTime: [place, values.length, stride, 0] });
        gl.bindVertexArray(array);
        gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
      };
      const [path, ...ends] = lines[number];
      drawLine(path, { thickness: 2.5, length: 0, uniforms: {
        uMiddle: [...middle.slice(0, 2), motion.floor + 0.002, FLOOR_M], uBehind: look.behind, uAhead: look.ahead } });

      gl.enable(gl.DEPTH_TEST);
      gl.enable(gl.CULL_FACE);
      gl.disable(gl.BLEND);
      const picture = { ...common, uMap: [0, look.shadowHeight] };
      const every = Number(ghosts.value);
      if (every > 0) {
        gl.enable(gl.BLEND);
        const step = every * Math.ceil(motion.numFrames / every / 80);
        for (let frame = 0; frame <= motion.lastFrame; frame += step) {
          if (Math.abs(frame - place) < 1) continue;
          const old = pointsAt(motion, frame);
          old.pop();
          // First the depth alone, so that no part of a ghost shows through another.
          gl.colorMask(false, false, false, false);
          drawBody(number, frame, old, picture, false, 1);
          gl.colorMask(true, true, true, true);
          gl.depthFunc(gl.LEQUAL);
          drawBody(number, frame, old, picture, false, frame < place ? 0.42 : 0.16);
          gl.depthFunc(gl.LESS);
        }
        gl.disable(gl.BLEND);
        gl.clear(gl.DEPTH_BUFFER_BIT);  // the body is never behind a ghost
      }
      drawBody(number, place, points, picture, false, 1);
      if (trails.ariaPressed === "true") {
        gl.enable(gl.BLEND);
        gl.depthMask(false);
        for (const end of ends) {
          drawLine(end, { thickness: 3.5, length: look.trail * motion.fps, uniforms: {
            uMiddle: [0, 0, 1e9, 0], uBehind: look.trails[end.side], uAhead: look.trails[end.side] } });
        }
        gl.depthMask(true);
      }
    }
    function clear() {
      gl.disable(gl.SCISSOR_TEST);
      gl.clearColor(...look.grid, 1);  // between the panels
      gl.clear(gl.COLOR_BUFFER_BIT);
    }
    return { gl, clear, drawPanel };
  }

  let scene = null, visible = true, keeper = null, away = false, gone = false;
  function open() {
    try {
      scene = createScene();
      keeper = scene && scene.gl.getExtension("WEBGL_lose_context");
      notice.textContent = scene ? "" : "This player needs WebGL 2, which this browser does not offer.";
    } catch (error) {
      notice.textContent = `The graphics driver refused the player: ${error.message}`;
    }
    drawnKey = "";
  }
  function comeBack() {
    if (visible && away && gone) keeper.restoreContext();
  }
  canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault();
    scene = null;
    gone = true;
    setTimeout(comeBack, 0);
  });
  canvas.addEventListener("webglcontextrestored", () => { away = gone = false; open(); });
  new IntersectionObserver((entries) => {
    visible = entries[entries.length - 1].isIntersecting;
    if (visible) comeBack();
    else if (scene && keeper) {
      away = true;
      scene = null;
      keeper.loseContext();
    }
  }).observe(canvas);

  // ---- the camera ------------------------------------------------------------------------------------------------

  let turn, elevation, zoom;
  function goHome() { turn = 0; elevation = motions[0].home.elevation; zoom = 1; }
  goHome();
  function view(motion, focus, box) {
    const azimuth = motion.home.azimuth + turn, distance = motion.home.distance * zoom;
    const sa = Math.sin(azimuth), ca = Math.cos(azimuth), se = Math.sin(elevation), ce = Math.cos(elevation);
    const right = [ca, 0, -sa], up = [-sa * se, ce, -ca * se], back = [sa * ce, se, ca * ce];
    const eye = focus.map((value, axis) => value + back[axis] * distance);
    // A body is higher than wide, so a narrow panel cuts the floor at its sides.
    const focal = Math.min(box[3], 1.35 * box[2]) / Math.tan(0.3), near = 0.05, far = distance + 60;
    const rows = [[right, focal / box[2]], [up, focal / box[3]], [back, (far + near) / (near - far)]];
    const matrix = new Float32Array(16);
    rows.forEach(([axes, scale], row) => {
      const shift = -(axes[0] * eye[0] + axes[1] * eye[1] + axes[2] * eye[2]);
      [...axes, shift].forEach((value, column) => { matrix[4 * column + row] = value * scale; });
    });
    matrix[14] += 2 * far * near / (near - far);
    [...back, -(back[0] * eye[0] + back[1] * eye[1] + back[2] * eye[2])].forEach((value, column) => {
      matrix[4 * column + 3] = -value;
    });
    return { matrix, eye };
  }

  // ---- drawing and time ------------------------------------------------------------------------------------------

  let time = 0, playing = false, drawnKey = "", columns = 0;
  function arrange(width, height) {
    const count = panels.length;
    let best = 0;
    for (let wide = 1; wide <= count; wide++) {
      const tall = Math.ceil(count / wide), size = Math.min(height / tall, 1.5 * width / wide) * (wide * tall === count ? 1.05 : 1);
      if (size > best) { best = size; columns = wide; }
    }
    const style = find("panels").style;
    style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    style.gridTemplateRows = `repeat(${Math.ceil(count / columns)}, minmax(0, 1fr))`;
  }
  function draw() {
    const ratio = Math.min(window.devicePixelRatio || 1, 3), width = canvas.clientWidth, height = canvas.clientHeight;
    const key = [time, turn, elevation, zoom, width, height, ratio, trails.ariaPressed, ghosts.value, style.value].join();
    if (!scene || key === drawnKey || !width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      arrange(width, height);
    }
    drawnKey = key;
    scene.clear();
    const stage = canvas.getBoundingClientRect();
    panels.forEach((panel, number) => {
      const { left, bottom, width, height } = panel.getBoundingClientRect();
      const box = [left - stage.left, stage.bottom - bottom, width, height].map((value) => Math.round(value * ratio));
      if (box[2] > 0 && box[3] > 0) scene.drawPanel(number, box, time, view, ratio);
    });
    const frame = Math.min(Math.round(time * motions[0].fps), motions[0].lastFrame);
    clock.textContent = `${time.toFixed(2)} / ${duration.toFixed(2)} s · frame ${frame}`;
    scrub.value = time;
    for (const scene of scenes) {
      const { start, end } = scene.dataset;
      scene.classList.toggle("now", time >= Number(start) && (time < Number(end) || Number(end) >= duration));
    }
  }

  scrub.max = duration;
  function setPlaying(on) {
    if (on && time >= duration) time = 0;
    playing = on;
    play.textContent = on ? "❚❚" : "▶";
  }
  function seek(to) { setPlaying(false); time = Math.min(Math.max(to, 0), duration); }
  let before = null;
  function tick(now) {
    if (playing && before !== null) {
      // A background tab gets no ticks, so limit the step to continue where it was.
      time += Math.min((now - before) / 1000, 0.25) * Number(speed.value);
      if (time > duration) {
        if (loop.ariaPressed === "true" && duration > 0) time %= duration;
        else { time = duration; setPlaying(false); }
      }
    }
    before = now;
    if (visible) draw();
    requestAnimationFrame(tick);
  }

  // ---- controls --------------------------------------------------------------------------------------------------

  const toggle = (button) => { button.ariaPressed = String(button.ariaPressed !== "true"); };
  const choose = (select, step) => {
    select.selectedIndex = Math.min(Math.max(select.selectedIndex + step, 0), select.options.length - 1);
  };
  play.addEventListener("click", () => setPlaying(!playing));
  loop.addEventListener("click", () => toggle(loop));
  trails.addEventListener("click", () => toggle(trails));
  find("home").addEventListener("click", goHome);
  scrub.addEventListener("input", () => seek(Number(scrub.value)));
  for (const scene of scenes) {
    scene.title = scene.textContent;
    scene.hidden = Number(scene.dataset.start) >= duration;
    scene.style.left = `${100 * scene.dataset.start / (duration || 1)}%`;
    scene.style.width = `${100 * (Math.min(scene.dataset.end, duration) - scene.dataset.start) / (duration || 1)}%`;
    scene.addEventListener("click", () => { time = Math.min(Number(scene.dataset.start), duration); });
  }
  if (!motions.some((motion) => motion.quaternions)) {
    style.value = "skeleton";
    style.hidden = true;
  }

  // ---- the span --------------------------------------------------------------------------------------------------

  // A page can ask its viewer for a span of time. The player sends each choice to the page, and shows the page's own.
  if (span) {
    const strip = find("span"), band = find("band"), handles = [...strip.querySelectorAll(".handle")];
    const { fps, numFrames } = motions[0], length = numFrames / fps;
    let ends = [0, length];
    const frameAt = (seconds) => Math.round(Math.min(Math.max(seconds, 0), length) * fps) / fps;
    const mark = (chosen) => {
      ends = chosen.map(frameAt).sort((a, b) => a - b);
      band.style.left = `${100 * ends[0] / length}%`;
      band.style.width = `${100 * (ends[1] - ends[0]) / length}%`;
      handles.forEach((handle, k) => {
        handle.style.left = `${100 * ends[k] / length}%`;
        handle.ariaValueMax = length.toFixed(2);
        handle.ariaValueNow = ends[k].toFixed(2);
        handle.ariaValueText = `${ends[k].toFixed(2)} seconds`;
      });
    };
    const send = () => parent.postMessage({ type: "lamp-hf-span", start: ends[0], end: ends[1] }, "*");
    let anchor = null;
    const secondsAt = (event) => {
      const { left, width } = strip.getBoundingClientRect();
      return length * (event.clientX - left) / width;
    };
    strip.addEventListener("pointerdown", (event) => {
      strip.setPointerCapture(event.pointerId);
      const held = handles.indexOf(event.target);
      anchor = held < 0 ? secondsAt(event) : ends[1 - held];
      seek(secondsAt(event));
      event.preventDefault();
    });
    strip.addEventListener("pointermove", (event) => {
      if (anchor === null) return;
      mark([anchor, secondsAt(event)]);
      seek(secondsAt(event));
    });
    for (const name of ["pointerup", "pointercancel"]) {
      strip.addEventListener(name, () => {
        if (anchor !== null) send();
        anchor = null;
      });
    }
    handles.forEach((handle, k) => handle.addEventListener("keydown", (event) => {
      const frames = event.shiftKey ? 10 : 1;
      const places = { ArrowLeft: ends[k] - frames / fps, ArrowDown: ends[k] - frames / fps, Home: k ? ends[0] : 0,
                       ArrowRight: ends[k] + frames / fps, ArrowUp: ends[k] + frames / fps, End: k ? length : ends[1] };
      if (!(event.key in places)) return;
      const place = k ? Math.max(places[event.key], ends[0]) : Math.min(places[event.key], ends[1]);
      mark(k ? [ends[0], place] : [place, ends[1]]);
      seek(ends[k]);
      send();
      event.preventDefault();
      event.stopPropagation();
    }));
    window.addEventListener("message", ({ source, data }) => {
      if (source === parent && data?.type === "lamp-hf-span" && [data.start, data.end].every(Number.isFinite)) {
        mark([data.start, data.end]);
      }
    });
    strip.hidden = false;
    mark(span);
  }

  const pointers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  const setZoom = (value) => { zoom = Math.min(8, Math.max(0.15, value)); };
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const apart = pointers.size === 2 ? spread() : 0;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 2) setZoom(zoom * apart / Math.max(spread(), 1));
    else if (pointers.size === 1) {
      turn -= (event.clientX - last[0]) * 0.008;
      elevation = Math.min(1.5, Math.max(-0.3, elevation + (event.clientY - last[1]) * 0.008));
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    setZoom(zoom * Math.exp(event.deltaY * 0.001));
  }, { passive: false });
  canvas.addEventListener("dblclick", goHome);

  const step = (frames) => seek((Math.round(time * motions[0].fps) + frames) / motions[0].fps);
  const KEYS = {
    " ": () => setPlaying(!playing), ArrowRight: () => step(1), ArrowLeft: () => step(-1),
    Home: () => seek(0), End: () => seek(duration), "+": () => choose(speed, 1), "-": () => choose(speed, -1),
    l: () => toggle(loop), t: () => toggle(trails), r: goHome,
    g: () => { ghosts.selectedIndex = (ghosts.selectedIndex + 1) % ghosts.options.length; },
    b: () => { if (!style.hidden) style.selectedIndex = 1 - style.selectedIndex; },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (["INPUT", "SELECT", "BUTTON"].includes(event.target.tagName)) return;
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    action();
    event.preventDefault();
  });

  // ---- files -----------------------------------------------------------------------------------------------------

  function offer(blob, name) {
    const link = document.createElement("a");
    link.download = name;
    link.href = URL.createObjectURL(blob);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  function nameOf(panel) {
    const words = panel.querySelector(".caption").textContent.toLowerCase().match(/[\p{L}\p{N}]+/gu) || ["motion"];
    return words.join("-").slice(0, 60);
  }
  files.forEach((kinds, number) => {
    const panel = panels[number], place = document.createElement("div");
    place.className = "files";
    for (const [kind, content] of Object.entries(kinds)) {
      const button = document.createElement("button");
      button.textContent = kind.toUpperCase();
      button.title = `Save the motion as a ${kind.toUpperCase()} file`;
      button.addEventListener("click", async () => {
        const packed = new Blob([bytesOf(content)]).stream();
        offer(await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).blob(), `${nameOf(panel)}.${kind}`);
      });
      place.append(button);
    }
    panel.append(place);
  });
  find("picture").addEventListener("click", () => {
    if (!scene) return;
    drawnKey = "";
    draw();
    canvas.toBlob((blob) => offer(blob, `${nameOf(panels[0])}.png`));
  });

  open();
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  setPlaying(duration > 0 && !still);
  requestAnimationFrame(tick);
})();
